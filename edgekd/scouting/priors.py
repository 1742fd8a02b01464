"""Priors: how accurate a network is likely to be, known before it is trained.

They order candidates and promise nothing: published figures are of other images and other recipes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SLOPE = 0.164
"""Accuracy goes with the side of the image to this power: Howard et al., "MobileNets", 2017,
arXiv:1704.04861, table 7, has 70.6 % at 224 pixels and 64.4 % at 128."""
LEAST = 3
"""Published figures that a line is drawn through."""


@dataclass(frozen=True)
class Prior:
    """How accurate a network may become; for ordering only."""

    value: float | None
    """A share."""
    basis: str
    """``published``, ``scaled`` (published at a larger size), ``fitted`` (from its MACs among
    published ones) or ``none``."""
    source: str
    """Where from, one line."""


@dataclass(frozen=True)
class Published:
    """An accuracy somebody published."""

    top1: float
    """A share."""
    size: int
    """Side in pixels of the images it was measured on."""
    source: str
    scale: str = ""
    """Whose figures it can be held against: of the same data and the same author."""


NONE = Prior(None, "none", "nothing is published of it, nor of enough others beside it")


def published_prior(found: Published, size: int) -> Prior:
    """What a published accuracy says of a network at ``size`` pixels."""
    if size >= found.size:
        return Prior(found.top1, "published", found.source)
    source = f"{found.source}; {found.size} px there, scaled by (size ratio)^{SLOPE}"
    return Prior(found.top1 * reduction(size, found.size), "scaled", source)


def reduction(size: int, full: int) -> float:
    """What is left of an accuracy at ``size`` pixels of that at ``full``: 1 where it is no less."""
    return float(min(1.0, size / full) ** SLOPE)


@dataclass(frozen=True)
class Line:
    """Accuracy against the logarithm of the MACs, by least squares."""

    offset: float
    slope: float
    points: int

    def prior(self, macs: float, left: float) -> Prior:
        """The accuracy of a network that nothing is published of.

        Args:
            macs: at full size.
            left: what its size leaves of the accuracy, see :func:`reduction`.
        """
        value = min(max(self.offset + self.slope * math.log(macs), 0.0), 1.0) * left
        return Prior(
            value, "fitted", f"least squares over log(MACs) of {self.points} published networks"
        )


def line_through(points: Sequence[tuple[float, float]]) -> Line | None:
    """The line through pairs of MACs and accuracy; None with fewer than :data:`LEAST`."""
    if len(points) < LEAST:
        return None
    x, y = [math.log(macs) for macs, _ in points], [top1 for _, top1 in points]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    if not spread:
        return None
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    return Line(mean_y - slope * mean_x, slope, len(x))
