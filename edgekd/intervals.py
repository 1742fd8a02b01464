"""How sure an accuracy is: intervals of proportions, alone and paired."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from edgekd.errors import UsageError


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

    The adjusted Wald interval of Agresti & Min, "Simple improved confidence intervals for
    comparing matched proportions", Statistics in Medicine 24, 2005: half a thing is added to each
    of the four cells. Things on which both agree do not widen it, which is why a paired test sees
    far smaller differences than two separate ones.

    Args:
        b: things only the first got right.
        c: things only the second got right.
        n: all things.
        confidence: of the interval.
    """
    if min(b, c) < 0 or b + c > n or n == 0:
        raise ValueError(f"expected counts with b + c <= n and n > 0, got b={b}, c={c}, n={n}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    more, less, total = b + 0.5, c + 0.5, n + 2
    centre = (more - less) / total
    half = z * math.sqrt(more + less - (more - less) ** 2 / total) / total
    return Interval((b - c) / n, max(centre - half, -1.0), min(centre + half, 1.0))


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
