"""Which of two models is faster, and whether the machine can tell them apart at all."""

from __future__ import annotations

import math
from typing import Any, Dict, Sequence

import numpy as np

from edgekd.agent.estimates import Estimate, centre_interval


def ratio(block_medians: Sequence[float], reference: Sequence[float]) -> Estimate:
    """How much longer than the reference it takes, from the ratios inside each block."""
    logs = np.log(np.asarray(block_medians)) - np.log(np.asarray(reference))
    centre, half = centre_interval(logs.tolist())
    if math.isinf(half):
        return Estimate(math.exp(centre), None, None, "n/a (1 block, need 2)")
    method = f"trimmed t over {len(logs)} ratios of block medians, 95 %"
    return Estimate(math.exp(centre), math.exp(centre - half), math.exp(centre + half), method)


def spread(null: Estimate) -> float:
    """How far the same model, measured twice, may be from itself: the far end of its interval."""
    if null.lo is None or null.hi is None:
        return math.inf
    return max(null.hi - 1, 1 - null.lo)


def compare(
    a: str, b: str, measured: Estimate, null: Estimate, basis: str, tolerance: float
) -> Dict[str, Any]:
    """The record of a comparison; ``null`` is the same model against itself, run beside it."""
    far = spread(null)
    quiet = far <= tolerance
    return {
        "a": a,
        "b": b,
        "ratio": measured.to_dict(),
        "null": null.to_dict(),
        "basis": basis,
        "state": "stable" if quiet else "unstable",
        "reasons": [] if quiet else [f"unstable, null pair +-{100 * far:.1f} %"],
        "sentence": sentence(b, measured, null),
    }


def sentence(name: str, measured: Estimate, null: Estimate) -> str:
    """``B is 6-9 % faster (95 %)``, or ``no difference seen``.

    Nothing is claimed whose interval includes 1, nor less than twice the difference of the null
    pair, nor what lies within the far end of the null pair's own interval: the 95 % interval alone
    claims a difference of two equal models in 2 to 3 of 100 comparisons (simulated).
    """
    lo, hi, value = measured.lo, measured.hi, measured.value
    if lo is None or hi is None or value is None or lo <= 1 <= hi or not null.value:
        return "no difference seen"
    seen = abs(math.log(value))
    if seen < 2 * abs(math.log(null.value)) or seen <= math.log1p(spread(null)):
        return "no difference seen"
    low, high = (1 - hi, 1 - lo) if hi < 1 else (lo - 1, hi - 1)
    return f"{name} is {_range(100 * low, 100 * high)} % {'faster' if hi < 1 else 'slower'} (95 %)"


def _range(low: float, high: float) -> str:
    digits = 0 if low >= 1 and round(high) > round(low) else 1
    texts = [f"{low:.{digits}f}", f"{high:.{digits}f}"]
    return texts[0] if texts[0] == texts[1] else "-".join(texts)
