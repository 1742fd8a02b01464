"""A measurement as it goes on: its rules, its samples, and whether it is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, NamedTuple, Optional, Tuple

import numpy as np

from edgekd.agent import comparison
from edgekd.agent.estimates import Estimate, centre_interval, median_of_blocks
from edgekd.agent.failures import AgentError
from edgekd.agent.timekeeping import Reading, ran_backwards

ENOUGH_RUNS = 20_000
MOST_RUNS = 400_000  # of a session: more would not fit into one line of an answer
BROKEN = "The device's monotonic clock runs backwards: restart the device."
KEPT_RUNS = 10  # undisturbed runs a block must have for their median to count


@dataclass(frozen=True)
class Rules:
    """When a measurement has warmed up, and when it is done."""

    warmup_runs: int = 10
    warmup_seconds: float = 1.0
    blocks: int = 5
    block_runs: int = 30
    block_seconds: float = 0.3
    min_seconds: float = 3.0
    max_seconds: float = 30.0
    tolerance: float = 0.02
    null_pair: bool = False
    """Whether the last session is the first model once more."""
    one_thread: bool = False
    """Whether wall time beyond CPU time can only be somebody else's."""


class Sample(NamedTuple):
    """One run."""

    at_ns: int
    wall_ns: int
    cpu_ns: int
    disturbed: bool
    block: int


@dataclass(frozen=True)
class WarmUp:
    """How the warm-up ended."""

    n: int
    reason: str
    backwards: int = 0
    """Times the clock was seen to run backwards."""


@dataclass
class Race:
    """What was measured so far; a list of samples for each session, in order."""

    samples: List[List[Sample]]
    warmup: WarmUp
    reopened: bool = False
    blocks: int = 0
    seconds: float = 0.0
    medians: List[List[float]] = field(default_factory=list)
    """Block medians of each session in ms, of all runs."""
    kept_medians: List[List[Optional[float]]] = field(default_factory=list)
    """The same of undisturbed runs; None for a block with too few of them."""
    readings: List[Reading] = field(default_factory=list)
    """The clocks before the warm-up, after it, and after each block."""
    backwards: int = 0
    """How often a run was seen to begin before the last one, or to end before it began."""
    last_ns: int = 0
    """When the latest run began."""

    def add(self, index: int, run: Sample) -> None:
        """Take a run in, unless its duration is impossible."""
        self.backwards += run.wall_ns < 0 or run.at_ns < self.last_ns
        self.last_ns = run.at_ns
        if run.wall_ns >= 0:
            self.samples[index].append(run)

    @property
    def undisturbed(self) -> Optional[List[List[float]]]:
        """Block medians of undisturbed runs; None if any block has too few of them."""
        whole = [[m for m in medians if m is not None] for medians in self.kept_medians]
        enough = all(len(kept) == self.blocks for kept in whole)
        return whole if enough else None

    @property
    def decisive(self) -> List[List[float]]:
        """The block medians that comparisons are made from."""
        return self.undisturbed or self.medians


def summarise(race: Race) -> None:
    """Add the medians of the block that just ended."""
    for index, runs in enumerate(race.samples):
        if index == len(race.medians):
            race.medians.append([])
            race.kept_medians.append([])
        block = [run for run in runs if run.block == race.blocks - 1]
        if not block:
            raise AgentError("clocks", f"no run of block {race.blocks} could be timed. {BROKEN}")
        kept = [run.wall_ns / 1e6 for run in block if not run.disturbed]
        race.medians[index].append(float(np.median([run.wall_ns / 1e6 for run in block])))
        enough = len(kept) >= KEPT_RUNS
        race.kept_medians[index].append(float(np.median(kept)) if enough else None)


def finished(race: Race, rules: Rules, seconds: float) -> bool:
    """Whether there are enough blocks, seconds and runs, and the medians are known."""
    if race.blocks and (race.backwards or ran_backwards(race.readings)):
        return True  # nothing that is measured with such a clock becomes any better
    if len(race.samples[0]) >= MOST_RUNS:
        return True
    if race.blocks < max(rules.blocks, 1):
        return False
    if seconds >= rules.max_seconds:
        return True
    if race.seconds < rules.min_seconds and len(race.samples[0]) < ENOUGH_RUNS:
        return False
    clean = race.undisturbed or race.medians
    known = all(
        min(_half_width(raw), _half_width(kept)) <= rules.tolerance
        for raw, kept in zip(race.medians, clean)
    )
    return known and (not rules.null_pair or null_spread(race) <= rules.tolerance)


def medians(race: Race, index: int) -> Tuple[Estimate, Estimate]:
    """A session's median in ms: of all runs, and of the undisturbed ones."""
    runs = race.samples[index]
    raw = median_of_blocks(race.medians[index], [run.wall_ns / 1e6 for run in runs])
    undisturbed = race.undisturbed
    if undisturbed is None:
        needed = f"n/a (a block has fewer than {KEPT_RUNS} undisturbed runs)"
        return raw, Estimate(None, None, None, needed)
    kept = [run.wall_ns / 1e6 for run in runs if not run.disturbed]
    return raw, median_of_blocks(undisturbed[index], kept)


def null_spread(race: Race) -> float:
    """How far the null pair may be from 1."""
    return comparison.spread(comparison.ratio(race.decisive[-1], race.decisive[0]))


def _half_width(block_medians: List[float]) -> float:
    centre, half = centre_interval(block_medians)
    return half / centre
