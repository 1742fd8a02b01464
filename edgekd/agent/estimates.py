"""Medians and their intervals: what a list of durations supports, and no more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np

Z95 = 1.959964  # of the normal distribution, two-sided 95 %
TRIM = 0.15  # of the blocks, at either end

# Student's t, two-sided 95 %, for 1 to 30 degrees of freedom.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A number with the range it is known to, or the reason why it is not known."""

    value: Optional[float]
    lo: Optional[float]
    hi: Optional[float]
    method: str

    @property
    def half_width(self) -> float:
        """Half the range as a share of the value; infinite where either is missing."""
        if not self.value or self.lo is None or self.hi is None:
            return math.inf
        return (self.hi - self.lo) / 2 / self.value

    def to_dict(self) -> Dict[str, Any]:
        """For JSON; six digits after the point are nanoseconds where the unit is ms."""
        numbers = {"value": self.value, "lo": self.lo, "hi": self.hi}
        short = {name: None if x is None else round(x, 6) for name, x in numbers.items()}
        return {**short, "method": self.method}


def t_quantile(freedom: int) -> float:
    """Two-sided 95 % point of Student's t."""
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    return Z95 + (Z95**3 + Z95) / (4 * freedom)


def centre_interval(values: Sequence[float]) -> Tuple[float, float]:
    """Trimmed mean and half of its 95 % interval (Tukey & McLaughlin 1963); infinite for one value.

    From seven values on, 15 % are cut off at either end: a neighbour on the machine that wakes up
    for one block would otherwise decide the width alone. With fewer it is Student's interval.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if n < 2:
        return float(ordered[0]), math.inf
    cut = int(TRIM * n)
    kept = ordered[cut : n - cut]
    drawn_in = np.clip(ordered, kept[0], kept[-1])
    error = float(drawn_in.std(ddof=1)) / (len(kept) / n * math.sqrt(n))
    return float(kept.mean()), t_quantile(len(kept) - 1) * error


def median_of_blocks(block_medians: Sequence[float], durations: Sequence[float]) -> Estimate:
    """The median of all runs, with the interval that the medians of the blocks give it.

    The blocks are the independent repeats: runs inside one share its drift and its memory layout,
    so an interval from the runs themselves is far too narrow.
    """
    value = float(np.median(durations))
    centre, half = centre_interval(block_medians)
    if math.isinf(half):
        return Estimate(value, None, None, "n/a (1 block, need 2)")
    method = f"trimmed t over {len(block_medians)} block medians, 95 %"
    low = max(0.0, min(value, centre - half))  # no run takes less
    return Estimate(value, low, max(value, centre + half), method)


def mean_interval(blocks: Sequence[Sequence[float]]) -> Optional[Tuple[float, float]]:
    """95 % interval of the mean of all runs, the blocks being the independent repeats.

    A block lasts a time, so slow ones hold fewer runs: the mean is a ratio, the blocks' sums over
    their counts, and so is its error (Cochran, "Sampling Techniques", 1977, section 6.3). Nothing
    is trimmed, as stragglers belong to a mean. None of a single block.
    """
    if len(blocks) < 2:
        return None
    sums = np.asarray([float(np.sum(block)) for block in blocks], dtype=np.float64)
    counts = np.asarray([len(block) for block in blocks], dtype=np.float64)
    value = float(sums.sum() / counts.sum())
    k, apart = len(blocks), sums - value * counts
    error = math.sqrt(k / (k - 1) * float((apart**2).sum())) / float(counts.sum())
    half = t_quantile(k - 1) * error
    return max(0.0, value - half), value + half


def variation(values: Sequence[float]) -> float:
    """Standard deviation as a share of the mean."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.std(ddof=1) / array.mean()) if len(array) > 1 else 0.0


def two_modes(durations: Sequence[float]) -> Optional[Tuple[float, float]]:
    """The centres of the two groups a bimodal list falls into; None if it is one group.

    Otsu's split of the logarithms: a normal distribution splits into halves that explain 64 % of
    its variance, an even one 75 %; 85 % takes two groups. Each has to hold a tenth of the runs.
    """
    logs = np.sort(np.log(np.asarray(durations, dtype=np.float64)))
    n = len(logs)
    if n < 50 or logs[-1] == logs[0]:
        return None
    cut = n // 100
    logs = logs[cut : n - cut]  # a few stragglers are not a mode
    n = len(logs)
    counts = np.arange(1, n)
    sums = np.cumsum(logs)[:-1]
    low, high = sums / counts, (logs.sum() - sums) / (n - counts)
    between = counts * (n - counts) / n**2 * (high - low) ** 2
    best = int(np.argmax(between))
    share = between[best] / max(float(logs.var()), 1e-30)
    enough = n // 10 <= best + 1 <= n - n // 10
    if share < 0.85 or not enough or high[best] - low[best] < math.log(1.1):
        return None
    return math.exp(float(low[best])), math.exp(float(high[best]))
