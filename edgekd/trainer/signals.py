"""Ears: hear the first Ctrl-C or SIGTERM, and let the loop stop where its state is whole."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from edgekd.world import world

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ECHO_S = 5.0
"""The terminal signals all processes, and so does their launcher again: that is one wish."""


class Ears:
    """``heard`` from the first signal on, whose ``number`` it is; a second interrupts at once."""

    def __init__(self) -> None:
        self.number = 0
        self._heard_at = 0.0

    @property
    def heard(self) -> bool:
        """Whether there was one."""
        return self.number != 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen during the block, then hand the signals back to who had them.

        Those that are ignored stay so.

        Raises:
            KeyboardInterrupt: one came too late for the block to see to it.
        """
        before = {number: signal.getsignal(number) for number in NUMBERS}
        before = {number: how for number, how in before.items() if how != signal.SIG_IGN}
        try:
            for number in before:
                signal.signal(number, self._hear)
        except ValueError:  # not the main thread: its owner listens
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.heard and world().size == 1:  # of several, none may leave the others by itself
            raise KeyboardInterrupt(self.number)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.heard and (world().size == 1 or time.monotonic() - self._heard_at > ECHO_S):
            raise KeyboardInterrupt(self.number)
        if not self.heard:
            self.number, self._heard_at = number, time.monotonic()
