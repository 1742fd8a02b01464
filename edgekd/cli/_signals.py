"""Signals that ask to end are heard like Ctrl-C: what was begun is put away before the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Asked:
    """Which signal asked first; later ones are not let into what is being put away."""

    def __init__(self) -> None:
        self._first: int = signal.SIGINT
        self._owner = os.getpid()
        self._heard = False

    @property
    def exit_code(self) -> int:
        """As a shell tells of a program that the signal ended: 130 for Ctrl-C."""
        return 128 + self._first

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen during the block; a signal that is ignored, as by ``nohup``, stays so."""
        numbers = (signal.SIGTERM, signal.SIGHUP)
        known = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
        for number in known:
            signal.signal(number, self._hear)
        try:
            yield
        finally:
            for number in known:
                signal.signal(number, signal.SIG_DFL)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a worker that was forked has nothing to put away
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not self._heard:
            self._heard, self._first = True, number
            raise KeyboardInterrupt
