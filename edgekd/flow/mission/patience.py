"""Patience: how long to measure, so that a budget's percentile is known well enough to rule on."""

from __future__ import annotations

from typing import Any

from edgekd.agent.percentiles import samples_needed
from edgekd.agent.race import Rules
from edgekd.boards import defaults_of
from edgekd.budget import LATENCY, Budget, Clause
from edgekd.errors import UsageError
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


def fields_for(budget: Budget, asked: Profile) -> dict[str, Any]:
    """The fields of a policy that a budget and a recipe decide.

    The bound itself says how long so many runs may take: what takes longer is over it anyway.
    """
    paces = [(c.metric, _pace_ms(c, asked.batch_size)) for c in budget.about(LATENCY | {"fps"})]
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


def check_meter(budget: Budget, device: str, meters: list[dict[str, Any]]) -> None:
    """Refuse a bound on energy where nothing measures it.

    Args:
        budget: what has to hold.
        device: how it is called.
        meters: those that answer there, as its survey says.

    Raises:
        UsageError: there is none that sees what the runtime computes on.
    """
    if not any(clause.metric == "j_per_inf" for clause in budget.clauses):
        return
    on_gpu = defaults_of(device).runtime == "trt"
    if any(on_gpu or not meter["name"].startswith("nvml") for meter in meters):
        return
    raise UsageError(
        f"the budget bounds j_per_inf, and {device} has no meter that edgekd can read (edgekd "
        "device doctor says which there are); energy is measured and never estimated. Leave the "
        "clause out, or name a --device with a meter."
    )


def _runs(metric: str, *, ample: bool = False) -> int:
    """The fewest runs for a figure and its interval, or enough for a narrow one."""
    if metric not in PERCENTS:
        return AMPLE_BLOCKS if ample else BLOCKS
    fewest = samples_needed(PERCENTS[metric])
    return AMPLE * fewest if ample else fewest


def _pace_ms(clause: Clause, batch: int) -> float:
    """What one run may take at a bound."""
    return 1e3 * batch / clause.bound if clause.metric == "fps" else clause.bound
