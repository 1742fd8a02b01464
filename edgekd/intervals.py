"""How sure an accuracy is: intervals of proportions, alone and paired."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from edgekd.errors import UsageError

HALVINGS = 50
"""Of an interval of length 2, down to the last bits."""


@dataclass(frozen=True)
class Interval:
    """A value and the range it is known to."""

    value: float
    lo: float
    hi: float


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """A proportion and its Wilson score interval (1927), which stays inside 0 .. 1."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"expected 0 to n successes of n > 0, got {successes} of {n}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0))


def paired_difference(b: int, c: int, n: int, confidence: float = 0.95) -> Interval:
    """Difference of two proportions of the same n things, ``(b - c) / n``.

    The score interval of Tango, "Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design", Statistics in Medicine 17, 1998. Things on which both
    agree do not widen it, which is why a paired test sees far smaller differences than two separate
    ones. Unlike intervals of Wald's kind it keeps its word at each end also where almost all
    differences go one way: of n equal answers it says that at most 3.84 / (n + 3.84) are lost.

    Args:
        b: things only the first got right.
        c: things only the second got right.
        n: all things.
        confidence: of the interval.
    """
    if min(b, c) < 0 or b + c > n or n == 0:
        raise ValueError(f"expected counts with b + c <= n and n > 0, got b={b}, c={c}, n={n}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return Interval((b - c) / n, -_most(c, b, n, z), _most(b, c, n, z))


def mean(values: Sequence[float], confidence: float = 0.95, least: float = 0.0) -> Interval:
    """A mean and Student's interval (1908) of it.

    Args:
        values: two or more, independent of each other.
        confidence: of the interval.
        least: the smallest standard deviation that is believed, where the values are rounded: a few
            can be equal by chance.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"expected two values or more, got {n}")
    half = _student_t(n - 1, confidence) * max(statistics.stdev(values), least) / math.sqrt(n)
    centre = statistics.fmean(values)
    return Interval(centre, centre - half, centre + half)


def _student_t(freedom: int, confidence: float) -> float:
    """The t that Student's t is below in size, with this probability; by halving its angle's range.

    Abramowitz & Stegun, "Handbook of Mathematical Functions", 1964, 26.7.3 and 26.7.4, with
    t = sqrt(freedom) tan(angle).
    """
    low, high = 0.0, math.pi / 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _within(freedom, middle) < confidence:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def _within(freedom: int, angle: float) -> float:
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (k - 1) / k
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def _most(b: int, c: int, n: int, z: float) -> float:
    """The largest difference from which ``(b - c) / n`` is at most z standard errors away."""
    low, high = (b - c) / n, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if n * middle - (b - c) <= z * _deviation(b, c, n, middle):
            low = middle
        else:
            high = middle
    return low


def _deviation(b: int, c: int, n: int, difference: float) -> float:
    """Standard deviation of ``b - c`` if this were the difference, the rest most likely."""
    # p = the share only the second gets right, from 2n p^2 + linear p - constant = 0
    linear = (2 * n - b + c) * difference - b - c
    constant = c * difference * (1 - difference)
    p = (math.sqrt(max(linear**2 + 8 * n * constant, 0.0)) - linear) / (4 * n)
    return math.sqrt(max(n * (2 * p + difference * (1 - difference)), 0.0))


def accuracy(
    predictions: Sequence[int],
    targets: Sequence[int] | None = None,
    reference: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The ``accuracy`` of a record; what cannot be known from what is given is None.

    Args:
        predictions: the model's classes.
        targets: the true ones.
        reference: those of the float model, on the same images.
    """
    n = len(predictions)
    for name, other in (("targets", targets), ("reference predictions", reference)):
        if other is not None and len(other) != n:
            raise UsageError(
                f"there are {len(other)} {name} and {n} images; expected one for each image, in "
                "the same order."
            )
    record: dict[str, Any] = dict.fromkeys(_NAMES) | {"metric": "top1", "n": n}
    if targets is not None:
        right = [p == t for p, t in zip(predictions, targets, strict=True)]
        share = wilson(sum(right), n)
        record |= {"value": share.value, "interval": [share.lo, share.hi]}
        if reference is not None:
            record |= _against(right, [r == t for r, t in zip(reference, targets, strict=True)])
    if reference is not None:
        same = sum(p == r for p, r in zip(predictions, reference, strict=True))
        record["top1_agreement"] = same / n
    return record


_NAMES = (
    "metric",
    "n",
    "value",
    "interval",
    "reference",
    "delta",
    "delta_interval",
    "top1_agreement",
)


def _against(right: Sequence[bool], reference_right: Sequence[bool]) -> dict[str, Any]:
    pairs = list(zip(right, reference_right, strict=True))
    gained, lost = pairs.count((True, False)), pairs.count((False, True))
    difference = paired_difference(gained, lost, len(pairs))
    return {
        "reference": sum(reference_right) / len(pairs),
        "delta": difference.value,
        "delta_interval": [difference.lo, difference.hi],
    }
