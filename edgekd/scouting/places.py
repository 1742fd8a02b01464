"""Places: where what a scout found out is kept, and by which releases it is told apart."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

__all__ = ["cache_folder", "release"]


def cache_folder(name: str) -> Path:
    """A folder of edgekd's in the user's cache; it need not be there."""
    found = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(found).expanduser() / "edgekd" / name


def release(package: str) -> str:
    """Of an installed package; empty where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
