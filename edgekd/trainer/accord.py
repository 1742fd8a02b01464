"""Accord: several processes agree on whether to stop, and when to save, without a message a step.

The launcher ends all of them half a minute after it was told to; so they ask each other every few
seconds, which the main process counts in steps for all.
"""

from __future__ import annotations

import time

import torch

from edgekd.trainer import collective
from edgekd.world import world

EVERY_S = 3.0
"""About the longest time between two agreements, of steps that take less."""
MOST = 1_000_000
"""Steps between two agreements: a number that float32 holds."""


class Accord:
    """When the processes ask each other; all are told the same.

    Args:
        step: how many are done; they agree after the next one first, and then know its speed.
    """

    def __init__(self, step: int) -> None:
        self._at, self._next = step, step + 1
        self._since = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether they agree after this step, be it logged or not."""
        return step >= self._next

    def reach(self, step: int, stopping: bool, due: bool) -> tuple[bool, bool]:
        """Whether any of them is to stop, and whether the main one finds it time to save.

        All call it, after the same steps.
        """
        seconds = max(time.monotonic() - self._since, 1e-9) / max(1, step - self._at)
        steps = min(max(1, int(EVERY_S / seconds)), MOST)
        said = [float(due), float(steps)] if world().is_main else [0.0, 0.0]
        found = collective.largest(torch.tensor([float(stopping), *said])).tolist()
        # the time is taken after the answer: a GPU has made its steps by then
        self._at, self._next, self._since = step, step + int(found[2]), time.monotonic()
        return bool(found[0]), bool(found[1])
