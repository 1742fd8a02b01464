"""Processes that meet with something at one exact moment, or at any: a power cut, a full disk.

A moment is something that lasts, about to happen: a file taking its name, a file going, a program
being started. Python's own audit events tell of them, so that nothing in edgekd knows that it is
watched. A blow is a signal some time after the start. What runs the commands is in ``forking.py``:
edgekd is imported once, and every command runs in a fork of it, a process of its own, without the
seconds that importing takes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Moment:
    """When to be hit: just before the ``count``-th moment whose name a pattern fits as a whole."""

    pattern: str
    count: int = 1
    after_s: float = 0.0
    """How much later: the middle of what a child process does."""
    number: int = signal.SIGKILL
    """The signal that comes then."""
    full: bool = False
    """Whether the disk is full then, instead; it has room again the next time."""
    gone: str = ""
    """A folder, within the command's own, that is deleted then, instead."""


@dataclass(frozen=True)
class Blow:
    """A signal at a time that nobody chose."""

    after_s: float
    number: int = signal.SIGKILL
    whom: str = "main"
    """``main``: the command's process; ``all``: with all that it started; ``group``: its process
    group, as a terminal does it; ``child``: one that it started, as soon as there is one."""

    def __str__(self) -> str:
        return f"{signal.Signals(self.number).name} to {self.whom} after {self.after_s:.3f} s"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """As :mod:`subprocess` has it: -9 for one that was killed."""
    out: str
    err: str
    moments: tuple[str, ...]
    """What it came by, as ``renames student/model.safetensors``; paths within its folder."""
    hit: bool
    """Whether a blow found somebody to hit."""
    late: bool
    """Whether it did not end by itself within the time it was given."""
    seconds: float

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Workshop:
    """Runs commands of edgekd, each in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self,
        words: Sequence[str],
        folder: Path,
        until: Moment | None = None,
        env: Mapping[str, str] | None = None,
        *,
        blow: Blow | None = None,
        first: str = "",
        told: Mapping[str, Any] | None = None,
        fresh: bool = False,
        limit_s: float = 300.0,
    ) -> Ended:
        """Run ``edgekd WORDS`` in a folder, to its end, to a moment or to a blow.

        Args:
            words: of the command line.
            folder: where it runs; it is made if need be.
            until: what happens at a moment; not where it is ``fresh``.
            env: variables of its own.
            blow: a signal.
            first: ``module:function``, called in its process before it begins, with ``told``.
            told: arguments by name; JSON.
            fresh: in a new Python, which imports everything itself and ends as Python does.
            limit_s: seconds after which it is ended, and ``late``.
        """
        asked = {
            "words": list(words),
            "folder": str(folder),
            "until": None if until is None else asdict(until),
            "env": dict(env or {}),
            "blow": None if blow is None else asdict(blow),
            "first": first,
            "told": dict(told or {}),
            "fresh": fresh,
            "limit_s": limit_s,
        }
        answer = self._ask(asked)
        return Ended(**{**answer, "moments": tuple(answer["moments"])})

    def strays(self, patience_s: float) -> list[str]:
        """Programs that commands started and that still run after so long, each by its words."""
        found: list[str] = self._ask({"strays": patience_s})
        return found

    def _ask(self, asked: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        told = self._process.stdout.readline()
        assert told, "the workshop ended"
        return json.loads(told)


@contextmanager
def workshop(env: Mapping[str, str] | None = None) -> Iterator[Workshop]:
    """Open one, with variables of its own; it is closed with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.forking"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONHASHSEED": "random"} | dict(env or {}),
    )
    try:
        yield Workshop(process)
    finally:
        process.communicate(timeout=60)
