"""Resident: how much memory this process has held at most, and those that decode for it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekd.loading import Loaders


def peak_gb(loaders: Loaders) -> float:
    """GB this process has held at most, and those that decode hold now beside what they share.

    0 where the system does not tell.
    """
    crew: set[int] = set()  # one serves all
    for loader in (loaders.train, loaders.validation, loaders.test):
        crew |= set(getattr(loader, "processes", ()))
    return round(own_peak() / 1e9 + sum(map(private, crew)) / 1e9, 3)


def told_peak(peak: float) -> str:
    """:func:`peak_gb` in words."""
    return f"memory: {peak:.2f} GB at most"


def own_peak() -> int:
    """Bytes of memory this process has held at most; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage tells includes that of the process that started this one
        return _kilobytes(status.read_text("ascii", "replace"), "VmHWM")
    try:
        import resource
    except ImportError:  # Windows
        return 0
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024


def private(pid: int) -> int:
    """Bytes that only this process holds; 0 where the system does not tell."""
    return held(pid, "Private_Clean", "Private_Dirty")


def held(pid: int, *names: str) -> int:
    """Bytes that a process holds of such kinds as ``Rss``; 0 where the system does not tell."""
    try:
        told = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    except OSError:
        return 0
    return _kilobytes(told, *names)


def _kilobytes(table: str, *names: str) -> int:
    found: Iterable[str] = re.findall(rf"^(?:{'|'.join(names)}):\s*(\d+) kB", table, re.MULTILINE)
    return sum(map(int, found)) * 1024
