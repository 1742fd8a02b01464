"""Trends of a series whose values resemble their neighbours: what rises, and what only wanders."""

from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np

FITTED = 3  # numbers of a parabola
FEWEST = 8  # values, to say how much neighbours resemble each other
ALIKE = 0.85  # neighbours, at most
RISING = 0.65  # ... in a trend: 20 values that rise from end to end are one all the same


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Theil-Sen: the median slope over all pairs, which a few outliers do not move."""
    t, v = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    first, second = np.triu_indices(len(t), 1)
    apart = t[second] != t[first]
    if not apart.any():
        return 0.0
    first, second = first[apart], second[apart]
    return float(np.median((v[second] - v[first]) / (t[second] - t[first])))


def trend(values: Sequence[float]) -> float:
    """Mann-Kendall's z: beyond 2.6 the values rise or fall more than chance would have them.

    It counts as many values as are independent (Hamed & Rao 1998; Yue & Wang 2004): noise that
    wanders rises from its first half to its second as often as not.
    """
    v = np.asarray(values, dtype=np.float64)
    n = len(v)
    if n < 4:
        return 0.0
    first, second = np.triu_indices(n, 1)
    score = float(np.sign(v[second] - v[first]).sum())
    return score / math.sqrt(n * (n - 1) * (2 * n + 5) / 18 * inflation(values, RISING))


def inflation(values: Sequence[float], most: float = ALIKE) -> float:
    """How many values of the series are worth one independent value; 1 at least.

    From the lag-1 autocorrelation about a parabola, as what heats up or warms up follows a bent
    line; with the bias taken off that comes of fitting it.

    Args:
        values: at equal distances.
        most: the autocorrelation is taken for that, at most.
    """
    v = np.asarray(values, dtype=np.float64)
    n = len(v)
    if n < FEWEST:
        return 1.0
    at = np.linspace(-1, 1, n)
    rest = v - np.polyval(np.polyfit(at, v, 2), at)
    found = (n * _lag_1(rest, v) + FITTED) / (n - FITTED - 2)
    alike = min(max(found, 0.0), most)
    return (1 + alike) / (1 - alike)


def _lag_1(rest: Any, values: Any) -> float:
    """Autocorrelation of neighbours; none where a curve leaves nothing but rounding."""
    power = float((rest**2).sum())
    if power <= 1e-18 * float((values**2).sum()):
        return -1.0
    return float((rest[1:] * rest[:-1]).sum()) / power
