"""Striking: a signal to a process, to its group, to all it started, or to one of those."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from tests.faults.doomed import Blow


def families(root: int) -> dict[int, str]:
    """All that descend from a process and live, each with the words it was started with."""
    parents: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):  # it ended meanwhile
            state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(place.name)] = int(parent)
    found: dict[int, str] = {}
    new = {root}
    while new := {pid for pid, parent in parents.items() if parent in new}:
        found |= {pid: _words(pid) for pid in new}
    return found


def strike(child: int, blow: Blow, others: Collection[int]) -> bool:
    """Send the signal; whether somebody was there to get it.

    Args:
        child: the command's process.
        blow: whom to hit.
        others: processes that earlier commands left.
    """
    if blow.whom == "main":
        return _send(child, blow.number)
    if blow.whom == "group":
        with suppress(ProcessLookupError):
            os.killpg(child, blow.number)
            return True
        return False
    if blow.whom == "child":
        started = sorted({*families(os.getpid())} - {child, *others})
        return bool(started) and _send(random.choice(started), blow.number)
    kill_all(os.getpid())
    return True


def kill_all(root: int) -> None:
    """As a power cut does: none of them sees another one go."""
    stopped: set[int] = set()
    while new := {*families(root)} - stopped:
        for pid in new:
            _send(pid, signal.SIGSTOP)
        stopped |= new
    for pid in stopped:
        _send(pid, signal.SIGKILL)


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _words(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").replace("\0", " ").strip()
    return ""
