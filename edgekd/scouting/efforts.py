"""Efforts: how long an entry is timed in each round; briefly first, then as a budget needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgekd.budget import Budget
from edgekd.profiling import Policy

BLOCKS = 5
FIRST_RUNS, LATER_RUNS = 30, 120
"""A 95th percentile takes 90, so that the second round knows it."""
NEEDED = {"p95": 90, "p99": 459}
"""Runs without which a percentile is not given; as the agent's ``samples_needed``."""
AMPLE = 1.6
"""So many times as many are made: runs resemble their neighbours, and an interval takes more."""
SECONDS = {FIRST_RUNS: 6.0, LATER_RUNS: 20.0}
LONGEST_S = 600.0
ENERGY_S, IDLE_S = 10.0, 5.0
"""A third of what a measurement takes that is to be kept."""


@dataclass(frozen=True)
class Effort:
    """How well a round has to know."""

    runs: int
    """Of each entry."""
    last: bool = False
    """Whether it is the whole policy."""
    energy: bool = False
    """Whether a meter is read, too."""

    def policy(self, given: Policy, medians: Sequence[float]) -> Policy:
        """How a job is measured.

        Args:
            given: the policy of the scouting.
            medians: ms of those in the job that were timed before, to allow them time enough.
        """
        blocks = max(given.blocks, BLOCKS) if self.last else BLOCKS
        runs = -(-self.runs // blocks)
        if not self.last:
            return replace(
                given,
                warmup_runs=3,
                warmup_seconds=0.3,
                blocks=blocks,
                block_runs=runs,
                block_seconds=0.05,
                min_seconds=0.5,
                max_seconds=min(SECONDS[self.runs], given.max_seconds),
                energy=False,
            )
        expected = 1.5 * self.runs * sum(medians) / 1e3 + 2 * given.warmup_seconds
        longest = min(max(given.max_seconds, expected), LONGEST_S)
        whole = replace(given, blocks=blocks, block_runs=runs, max_seconds=longest)
        if not self.energy:
            return whole
        return replace(whole, energy=True, energy_s=ENERGY_S, idle_s=IDLE_S)


def efforts(
    rounds: int, entries: int, few: int, budget: Budget | None, given: Policy
) -> list[Effort]:
    """What is done in each round.

    Args:
        rounds: at most so many.
        entries: in the first of them.
        few: with no more entries than that, the second round is the last: dropping takes longer
            than timing them.
        budget: the last round makes the runs that its percentile takes, and reads a meter for it.
        given: the policy of the scouting.
    """
    named = {clause.metric for clause in budget.clauses} if budget is not None else set()
    needed = max((NEEDED[metric] for metric in named & set(NEEDED)), default=0)
    runs = max(given.blocks * given.block_runs, round(AMPLE * needed))
    last = Effort(runs, last=True, energy="j_per_inf" in named)
    before = min(rounds, 2 if entries <= few else rounds) - 1
    return [*(Effort(LATER_RUNS if i else FIRST_RUNS) for i in range(before)), last]
