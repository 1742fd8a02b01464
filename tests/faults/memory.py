"""Processes that may take only so much memory; run as ``first`` in the workshop's children."""

from __future__ import annotations

import resource
from pathlib import Path

from tests.faults.commands import measure_briefly

MIB = 2**20


def bound(more_mib: int, *, briefly: bool = False) -> None:
    """Allow this process, and all that it starts, so much address space more than it has now.

    ``briefly``: it also measures as :func:`measure_briefly` has it, as what it is compared with.
    """
    if briefly:
        measure_briefly()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    most = pages * resource.getpagesize() + more_mib * MIB
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def whole(mib: int) -> None:
    """Allow this process so much address space in all: what it is to become may not have begun."""
    resource.setrlimit(resource.RLIMIT_AS, (mib * MIB, mib * MIB))
