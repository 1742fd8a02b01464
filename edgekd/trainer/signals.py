"""Ears: hear the first Ctrl-C or SIGTERM, and let the loop stop where its state is whole."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from edgekd.world import world

ECHO_S = 5.0
"""The terminal signals all processes, and so does their launcher again: that is one wish."""


class Ears:
    """``heard`` is set by the first signal; a second one interrupts at once."""

    def __init__(self) -> None:
        self.heard = False
        self._heard_at = 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen during the block, then hand the signals back to who had them."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in numbers}
        try:
            for number in numbers:
                signal.signal(number, self._hear)
        except ValueError:  # not the main thread: its owner listens
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.heard and (world().size == 1 or time.monotonic() - self._heard_at > ECHO_S):
            raise KeyboardInterrupt
        if not self.heard:
            self.heard, self._heard_at = True, time.monotonic()
