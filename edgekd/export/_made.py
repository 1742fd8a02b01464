"""What a step of an export hands to the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Made:
    """A model file, and what is known of it."""

    file: Path
    record: Mapping[str, Any]
    """For the ``export`` section of the manifest."""
