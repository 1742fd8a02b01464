"""Signals that ask to end are heard like Ctrl-C: what was begun is put away before the end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DEFAULT = (signal.SIG_DFL, signal.default_int_handler)
INSISTING_S = 5.0
"""After so long, another signal ends at once; a terminal and a launcher may both send the first."""
AGAIN_S = 0.01
IMPORTING = "<frozen importlib._bootstrap>"
HERE = str(Path(__file__).parent)


class Asked:
    """Which signal asked first; later ones are not let into what is being put away."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._heard_at: float | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen during the block; a signal that is ignored, as by ``nohup``, stays so."""
        known = {number: signal.getsignal(number) for number in ENDING}
        known = {number: before for number, before in known.items() if before in DEFAULT}
        for number in known:
            signal.signal(number, self._hear)
        told, sys.unraisablehook = sys.unraisablehook, self._unraised
        try:
            yield
        finally:
            sys.unraisablehook = told
            for number, before in known.items():
                signal.signal(number, before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a worker that was forked has nothing to put away
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self._heard_at is None:
            if _only_imports(frame):
                with suppress(OSError):  # a terminal that is gone
                    os.write(2, b"\nedgekd: stopped.\n")
                os._exit(128 + number)
            self._heard_at = time.monotonic()
            raise KeyboardInterrupt(number)
        elif time.monotonic() - self._heard_at > INSISTING_S:
            os._exit(128 + number)

    def _unraised(self, unraisable: Any) -> None:
        """A signal that came while something was collected, where nothing can be raised."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            self._heard_at = None
            again = (os.getpid(), number_of(unraisable.exc_value))
            threading.Timer(AGAIN_S, os.kill, again).start()
        else:
            sys.__unraisablehook__(unraisable)


def _only_imports(frame: FrameType | None) -> bool:
    """Whether a verb imports what it needs, and has begun nothing that is to be put away.

    PyTorch's own modules of C++ abort where the Python that they call is interrupted.
    """
    outermost = ""
    while frame is not None and frame.f_back is not None:
        if frame.f_code.co_filename == IMPORTING:
            outermost = frame.f_back.f_code.co_filename
        frame = frame.f_back
    return str(Path(outermost).parent) == HERE


def settle() -> None:
    """Have ``python -m`` end with the code that it is given, and not once more by Ctrl-C.

    It remembers a KeyboardInterrupt that came through code made of text, as a library's import runs
    it, until there is other such code; a named tuple is made of some.
    """
    namedtuple("Stopped", ())


def number_of(stopped: BaseException) -> int:
    """The signal that stopped a command, behind what is raised around it; else that of Ctrl-C."""
    one: BaseException | None = stopped
    while one is not None:
        if isinstance(one, KeyboardInterrupt) and one.args and isinstance(one.args[0], int):
            return one.args[0] or signal.SIGINT
        one = one.__cause__ or one.__context__
    return signal.SIGINT
