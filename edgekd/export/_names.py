"""Names of files that the parts of an export agree on."""

from __future__ import annotations

MODEL = "model.onnx"
REJECTED = ".rejected"
"""Ends the name of a file that failed its proof."""
