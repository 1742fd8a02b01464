"""Rounding: what a training does beside where its network has to bear being int8."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import nn

from edgekd.models.quantised import SCHEMES, Simulation
from edgekd.trainer import collective
from edgekd.world import world

OBSERVED = 0.75
"""Share of a training after which the ranges stay as they are: the file's are fixed, too."""


class Rounding:
    """Round in networks until they are released; with an empty scheme, do nothing at all.

    Args:
        scheme: ``train.quantise`` of a recipe.
        networks: the student first, and its moving average, which takes the student's ranges.
    """

    def __init__(self, scheme: str, networks: Sequence[nn.Module]) -> None:
        self.simulation = Simulation(SCHEMES[scheme]) if scheme else None
        if self.simulation is not None and world().size > 1:
            self.simulation.agree = collective.largest
        self._releases = [self.simulation.attach(n) for n in networks if self.simulation]

    def observe(self, progress: float) -> None:
        """Let the ranges follow the weights, and hold them still at the end."""
        if self.simulation is not None:
            self.simulation.observing = progress < OBSERVED

    def in_float(self) -> AbstractContextManager[None]:
        """Inside, nothing is rounded."""
        return nullcontext() if self.simulation is None else self.simulation.paused()

    def release(self) -> None:
        """Leave bare networks, which round no more."""
        for release in self._releases:
            release()
