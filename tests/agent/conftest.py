"""Tiny models for the agent's tests."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

TINY = runpy.run_path(str(Path(__file__).parent / "tiny_models.py"))


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """``classifier``, ``pictures``, ``MEAN`` and ``STD`` of ``tiny_models.py``."""
    return TINY
