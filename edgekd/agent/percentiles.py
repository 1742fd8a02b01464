"""Percentiles of durations, with intervals that know that runs resemble their neighbours.

An interval of order statistics takes every run for independent. Runs are not: a neighbour on the
machine or a clock that changed holds for a while. So what the blocks differ by is held against what
independent runs would differ by (the design effect), and the runs count for fewer (Woodruff 1952;
Korn & Graubard 1998).
"""

from __future__ import annotations

import math
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np

from edgekd.agent.estimates import Z95, Estimate, t_quantile

CONFIDENCE = 0.95
FLOOR_CONFIDENCE = 0.99
PERCENTILES = (10.0, 50.0, 90.0, 95.0, 99.0, 99.9)


def samples_needed(percent: float, confidence: float = FLOOR_CONFIDENCE) -> int:
    """Fewest independent runs of which one lies beyond the percentile with that confidence.

    With 99 %: p50 needs 7, p90 44, p95 90, p99 459, p99.9 4603; p10 as many as p90.
    """
    inside = max(percent, 100 - percent) / 100
    return math.ceil(math.log(1 - confidence) / math.log(inside))


def binomial_cdf(n: int, p: float) -> Any:
    """P(at most k of n) for k = 0 .. n."""
    k = np.arange(1, n + 1)
    odds = math.log(p / (1 - p))
    logs = np.concatenate([[0.0], np.cumsum(np.log((n - k + 1) / k) + odds)]) + n * math.log(1 - p)
    return np.minimum(np.cumsum(np.exp(logs)), 1.0)  # (n + 1,)


def order_ranks(n: int, percent: float, confidence: float = CONFIDENCE) -> Tuple[int, int]:
    """Ranks, from 0, of the two runs that enclose the percentile whatever the distribution."""
    tail = (1 - confidence) / 2
    cdf = binomial_cdf(n, percent / 100)
    lower = int(np.searchsorted(cdf, tail, side="right"))  # P(fewer than lower below) <= tail
    upper = int(np.searchsorted(cdf, 1 - tail, side="left")) + 1
    return max(lower - 1, 0), min(upper - 1, n - 1)


def percentile(
    durations: Sequence[float], percent: float, blocks: Optional[Sequence[int]] = None
) -> Estimate:
    """A percentile, or ``n/a`` where there are too few runs for it.

    Args:
        durations: in any order.
        percent: between 0 and 100.
        blocks: the block of each run; without, the runs are taken as independent.
    """
    n, needed = len(durations), samples_needed(percent)
    if n < needed:
        return Estimate(None, None, None, f"n/a ({n} runs, need {needed})")
    ordered = np.sort(np.asarray(durations, dtype=np.float64))
    rank = min(max(math.ceil(percent / 100 * n) - 1, 0), n - 1)
    value = float(np.median(ordered) if percent == 50 else ordered[rank])
    above = np.asarray(durations, dtype=np.float64) > value
    counts, sums = _by_block(above, blocks)
    if len(counts) < 2:
        return _enclosed(value, ordered, percent, n, "runs taken as independent")
    worth = n / (design_effect(counts, sums) * (t_quantile(len(counts) - 1) / Z95) ** 2)
    how = f"widened {math.sqrt(n / worth):.1f}x for runs that resemble their neighbours"
    return _enclosed(value, ordered, percent, max(int(worth), 1), how)


def percentiles(
    durations: Sequence[float], blocks: Optional[Sequence[int]] = None
) -> Dict[str, Estimate]:
    """``p10`` to ``p99.9``."""
    return {f"p{percent:g}": percentile(durations, percent, blocks) for percent in PERCENTILES}


def design_effect(counts: Any, above: Any) -> float:
    """How much more the blocks' shares vary than those of independent runs would; 1 at least.

    Args:
        counts: runs of each block.
        above: those of them that took longer than the percentile.
    """
    n, blocks = counts.sum(), len(counts)
    share = above.sum() / n
    independent = share * (1 - share) / n
    apart = above - share * counts
    found = blocks / (blocks - 1) * float((apart**2).sum()) / n**2
    return max(found / independent, 1.0) if independent > 0 else 1.0


def _by_block(above: Any, blocks: Optional[Sequence[int]]) -> Tuple[Any, Any]:
    """Runs of each block, and those above."""
    if blocks is None:
        return np.array([len(above)]), np.array([above.sum()])
    _, places = np.unique(np.asarray(blocks), return_inverse=True)
    return np.bincount(places), np.bincount(places, weights=above)


def _enclosed(value: float, ordered: Any, percent: float, worth: int, how: str) -> Estimate:
    """The runs at the ranks that enclose the percentile of so many independent ones."""
    n, needed = len(ordered), samples_needed(percent, (1 + CONFIDENCE) / 2)
    if worth < needed:
        text = f"range n/a (runs that resemble their neighbours: worth {worth}, need {needed})"
        return Estimate(value, None, None, f"order statistics, {text}")
    low, high = order_ranks(worth, percent)
    first = max(math.floor((low + 1) * n / worth) - 1, 0)
    last = min(math.ceil((high + 1) * n / worth) - 1, n - 1)
    return Estimate(value, float(ordered[first]), float(ordered[last]), f"order statistics, {how}")
