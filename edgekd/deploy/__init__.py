"""Deploy: a folder that classifies pictures on a device without edgekd.

What it holds: the model, its labels, ``config.json``, four small programs (``payload/``; one of
its engines becomes ``engine.py``), requirements, a systemd unit, the model card, and the hashes of
all of them in ``SHA256SUMS``.
"""

from __future__ import annotations

from edgekd.deploy.bundle import Bundle, bundle
from edgekd.deploy.measured import Measured

__all__ = ["Bundle", "Measured", "bundle"]
