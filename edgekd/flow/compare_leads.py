"""How far one method is ahead of another, and how sure that is: over seeds and over images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean

import numpy as np
from numpy.typing import NDArray

from edgekd import intervals
from edgekd.intervals import Interval

Right = NDArray[np.bool_]
"""(S, N) where each seed's student was right; the same N images for all."""


def lead(one: Right, other: Right, confidence: float) -> Interval:
    """Difference of top-1, paired by seed and by image, with an interval that has both in it.

    All seeds are judged on the same images, so what these images happen to like is in none of the
    seeds' differences, and what the seeds happen to like is in none of the images'. The variances
    of both are added. The part that seed and image have together is counted twice, to be safe.

    Args:
        one: (S, N) of the first method, S seeds, two or more.
        other: (S, N) of the second, the same seeds in the same order.
        confidence: of the interval.
    """
    ahead = one.astype(np.float64) - other  # (S, N) of -1, 0 and 1
    seeds = intervals.mean(ahead.mean(1).tolist(), confidence, least=1 / ahead.shape[1])
    half = math.hypot(seeds.hi - seeds.value, _half_of_images(ahead.mean(0), confidence))
    return Interval(seeds.value, max(seeds.value - half, -1.0), min(seeds.value + half, 1.0))


def _half_of_images(ahead: NDArray[np.float64], confidence: float) -> float:
    """Half the interval that other images of this kind would move the mean in.

    Half an image more goes each way, as in Agresti & Min, "Simple improved confidence intervals for
    comparing matched proportions", Statistics in Medicine 24, 2005: a few images that all go one
    way look surer than they are.

    Args:
        ahead: (N,) mean difference over the seeds of each image, in [-1, 1].
        confidence: of the interval.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return z * math.sqrt(float(((ahead - ahead.mean()) ** 2).sum()) + 1) / len(ahead)


def accuracy(values: Sequence[float], n: int, confidence: float) -> Interval:
    """Mean top-1 over seeds that were judged on the same images, with both variances.

    Args:
        values: of each seed, two or more.
        n: images.
        confidence: of the interval.
    """
    seeds = intervals.mean(values, confidence, least=1 / n)
    images = intervals.wilson(round(fmean(values) * n), n, confidence)
    half = seeds.hi - seeds.value
    low = seeds.value - math.hypot(half, max(seeds.value - images.lo, 0.0))
    high = seeds.value + math.hypot(half, max(images.hi - seeds.value, 0.0))
    return Interval(seeds.value, max(low, 0.0), min(high, 1.0))
