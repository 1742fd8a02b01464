"""Patience: how long to measure, so that a budget's percentile is known well enough to rule on."""

from __future__ import annotations

from typing import Any

from edgekd.agent.percentiles import samples_needed
from edgekd.agent.race import Rules
from edgekd.budget import LATENCY, Budget, Clause
from edgekd.recipe import Profile

PERCENTS = {"p50": 50.0, "p95": 95.0, "p99": 99.0}
AMPLE = 4
"""So many times the fewest runs that a percentile takes: its interval takes more than itself."""
BLOCKS, AMPLE_BLOCKS = 2 * Rules.blocks, Rules.blocks * Rules.block_runs
"""Runs for a mean and a rate, whose interval comes from blocks of runs: two a block, or whole ones.
"""
LONGEST_S = 120.0
"""A measurement is not made longer than this for an ample number of runs; for the fewest, it is."""
LEAST_S = 3.0
SLACK = 1.25
"""A run takes so many times the median that is known of it: the slow ones count as well."""


def fields_for(budget: Budget, asked: Profile, median_ms: float | None = None) -> dict[str, Any]:
    """The fields of a policy that a budget and a recipe decide.

    So many runs take as long as what is known of the file says. What takes longer than the bound is
    over it anyway, so that more than the bound is never allowed for.

    Args:
        budget: its percentiles say how many runs.
        asked: what the recipe says.
        median_ms: of one run, as it was scouted or measured; None goes by the bound alone.
    """
    paces = [
        (clause.metric, _pace_ms(clause, asked.batch_size, median_ms))
        for clause in budget.about(LATENCY | {"fps"})
    ]
    fewest = max((_runs(metric) * ms / 1e3 for metric, ms in paces), default=0.0)
    ample = min(max((_runs(m, ample=True) * ms / 1e3 for m, ms in paces), default=0.0), LONGEST_S)
    longest = max(asked.max_seconds, 1.5 * max(fewest, ample))
    said: dict[str, Any] = {
        "batch_size": asked.batch_size,
        "min_seconds": min(max(ample, fewest, LEAST_S), longest),
        "max_seconds": longest,
    }
    if asked.threads:
        said["threads"] = asked.threads
    if any(clause.metric == "j_per_inf" for clause in budget.clauses):
        said["energy"] = True
    return said


def longer(said: dict[str, Any]) -> dict[str, Any]:
    """Three times as long, for a figure that lies on both sides of its bound."""
    return said | {name: 3 * said[name] for name in ("min_seconds", "max_seconds")}


def _runs(metric: str, *, ample: bool = False) -> int:
    """The fewest runs for a figure and its interval, or enough for a narrow one."""
    if metric not in PERCENTS:
        return AMPLE_BLOCKS if ample else BLOCKS
    fewest = samples_needed(PERCENTS[metric])
    return AMPLE * fewest if ample else fewest


def _pace_ms(clause: Clause, batch: int, median_ms: float | None) -> float:
    """What one run takes, or may take at a bound where nothing is known of it."""
    bound = 1e3 * batch / clause.bound if clause.metric == "fps" else clause.bound
    return bound if median_ms is None else min(bound, SLACK * median_ms)
