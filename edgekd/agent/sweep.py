"""The sweep: threads and spinning, each pair in processes of its own, in two passes.

The second pass goes through the pairs in mirrored order, so that what drifts meets each of them
alike. A pair is called best only where it can be told from the cheaper ones before it: what is
written here runs in the parent, which has no numpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Any, Dict, List, Sequence, Tuple

from edgekd.agent.children import Stage
from edgekd.agent.failures import AgentError
from edgekd.agent.states import worst

ALL_UP_TO = 6  # cores, every number of threads is tried; beyond, the powers of two and all
P95_RUNS = 90  # fewest for a p95: see percentiles.samples_needed
APART = 0.03  # of the median: passes further apart than that have drifted
OUTLIERS = 8  # blocks for each that the interval leaves out at either end

Row = Dict[str, Any]


def configurations(cores: int, runtime: str) -> List[Tuple[int, bool]]:
    """Threads and spinning, the cheapest first; one thread has nobody to spin for."""
    threads = list(range(1, cores + 1))
    if cores > ALL_UP_TO:
        threads = [n for n in threads if n & (n - 1) == 0 or n == cores]
    spinning = (False, True) if runtime == "ort" else (False,)
    return [(n, spins) for n in threads for spins in spinning if n > 1 or not spins]


def sweep(stage: Stage, index: int, cores: int) -> Dict[str, Any]:
    """Time one model with every pair.

    Args:
        stage: the way to processes.
        index: the model.
        cores: physical ones that its processes may use.

    Returns:
        ``rows``, ``best_latency`` and ``best_cpu``: places in ``rows``.

    Raises:
        AgentError: no pair could be timed.
    """
    name = stage.job["models"][index]["name"]
    count = len(configurations(cores, stage.job["runtime"]))
    order = [*range(count), *reversed(range(count))]
    passes: List[List[Row]] = [[] for _ in range(count)]
    refused: Dict[int, AgentError] = {}
    for done, place in enumerate(order):
        step = f"trial:{index * count + place}"
        event = {"step": "sweep", "model": name, "done": done, "of": len(order)}
        stage.emit({"event": "progress", **event})
        if place in refused:
            continue
        try:
            passes[place].append(stage.child(["pin", step], [name])[step])
        except AgentError as error:
            refused[place] = error
            stage.emit({"event": "note", "text": f"left out of the sweep: {error}"})
    rows = [_row(both) for place, both in enumerate(passes) if place not in refused]
    if not rows:
        raise refused[0]
    return {
        "rows": [{key: row[key] for key in ROW} for row in rows],
        "best_latency": best([row["ms_range"] for row in rows]),
        "best_cpu": best([row["cpu_range"] for row in rows]),
    }


ROW = ("threads", "spinning", "median", "p95", "cpu_ms", "n", "state")


@dataclass(frozen=True)
class Range:
    """Where the median of a pair may lie, and by how much its two passes differ."""

    low: float
    high: float
    apart: float = 0.0

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


def best(ranges: Sequence[Range]) -> int:
    """The first, hence the cheapest, that cannot be told from the lowest of all.

    What a pair differs by from itself, from one pass to the other, is no difference of two pairs.
    """
    lowest = min(ranges, key=lambda one: one.middle)
    return next(
        place
        for place, one in enumerate(ranges)
        if one.low <= lowest.high or one.middle - lowest.middle <= max(one.apart, lowest.apart)
    )


def block_interval(values: Sequence[float]) -> Tuple[float, float]:
    """A range of block medians that holds their median, whatever the distribution.

    Order statistics: the second and the last but one of ten are a 97.9 % interval.
    """
    ordered, cut = sorted(values), len(values) // OUTLIERS
    return ordered[cut], ordered[-1 - cut]


def _row(passes: Sequence[Row]) -> Row:
    ms = sorted(value for one in passes for value in one["ms"])
    middle = median(ms)
    drifted = _apart([median(one["ms"]) for one in passes]) > APART * middle
    enough = len(ms) >= P95_RUNS
    return {
        "threads": passes[0]["threads"],
        "spinning": passes[0]["spinning"],
        "median": round(middle, 6),
        "p95": ms[math.ceil(0.95 * len(ms)) - 1] if enough else None,
        "cpu_ms": round(median(value for one in passes for value in one["block_cpu_ms"]), 6),
        "n": len(ms),
        "state": worst([one["state"] for one in passes] + ["drifting"] * drifted),
        "ms_range": _range([one["block_ms"] for one in passes]),
        "cpu_range": _range([one["block_cpu_ms"] for one in passes]),
    }


def _range(passes: Sequence[Sequence[float]]) -> Range:
    """From the block medians of each pass."""
    low, high = block_interval([value for one in passes for value in one])
    return Range(low, high, _apart([median(one) for one in passes]))


def _apart(values: Sequence[float]) -> float:
    return max(values) - min(values)
