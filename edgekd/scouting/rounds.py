"""Rounds: all entries briefly, the better half for longer, until the last ones are known well.

Successive halving: Jamieson & Talwalkar, "Non-stochastic best arm identification and hyperparameter
optimization", AISTATS 2016, section 3. What is bad costs little.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from edgekd.budget import Budget
from edgekd.scouting.efforts import Effort
from edgekd.scouting.following import Followers, following, leading
from edgekd.scouting.ranking import Cut, Entry, Standing, cut
from edgekd.scouting.timing import Outcome, Tell
from edgekd.watching import Watch


class Timing(Protocol):
    """What times entries: :class:`edgekd.scouting.timing.Stand`."""

    def time(self, entries: Sequence[Entry], effort: Effort, tell: Tell) -> dict[str, Outcome]:
        """Outcomes by key."""

    def drop(self, entries: Sequence[Entry]) -> None:
        """These will not be timed again."""


@dataclass(frozen=True)
class Round:
    """What one round was."""

    number: int
    candidates: int
    kept: int
    seconds: float


@dataclass(frozen=True)
class Raced:
    """What all rounds came to."""

    standings: tuple[Standing, ...]
    rounds: tuple[Round, ...]


def race(
    entries: Sequence[Entry],
    stand: Timing,
    course: Sequence[Effort],
    budget: Budget | None,
    margin: float,
    watch: Watch,
) -> Raced:
    """Time entries in rounds, and leave the worse ones out of the next.

    The plainest precision is timed first, and the others join the second round where they may
    matter; with one round, all are timed in it.

    Args:
        entries: all of them; each candidate in the same precisions.
        stand: times them.
        course: how well each round has to know; see :func:`edgekd.scouting.efforts.efforts`.
        budget: what they are held against.
        margin: as a share of a figure.
        watch: told how each round ends.

    Raises:
        DeviceError: the device cannot measure anything, or the link to it was lost.
    """
    known = {each.key: Standing(each) for each in entries}
    going = leading(entries) if len(course) > 1 else list(entries)
    others = [each for each in entries if each not in going]
    rounds = list[Round]()
    for number, effort in enumerate(course, 1):
        begun = time.monotonic()
        found = stand.time(going, effort, _teller(watch, f"round {number}", len(going)))
        known |= {key: _after(known[key], outcome) for key, outcome in found.items()}
        timed = [known[each.key] for each in going if known[each.key].failed is None]
        kept, seconds, joined = timed, time.monotonic() - begun, Followers([], {})
        if number < len(course):
            decided = cut(timed, budget, margin)
            kept = decided.kept
            if number == 1:
                leads = {each.candidate.key: known[each.key] for each in going}
                joined = following(others, leads, decided, budget, margin)
            for key, why in (decided.dropped | joined.dropped).items():
                known[key] = replace(known[key], dropped=f"round {number}: {why}")
            stand.drop(_unneeded(known, decided, joined))
        rounds.append(Round(number, len(going), len(kept), round(seconds, 2)))
        watch.progress(f"round {number}", len(going), len(going), _left(kept, joined))
        going = [*(standing.entry for standing in kept), *joined.going]
        if not going:
            break
    return Raced(tuple(known.values()), tuple(rounds))


def _unneeded(known: Mapping[str, Standing], decided: Cut, joined: Followers) -> list[Entry]:
    """Those that were dropped, but for what another precision is written from."""
    needed = {each.candidate.key for each in joined.going}
    gone = [known[key].entry for key in decided.dropped]
    return [each for each in gone if each.candidate.key not in needed]


def _left(kept: Sequence[Standing], joined: Followers) -> str:
    more = sorted({each.precision for each in joined.going})
    beside = f", {len(joined.going)} more in {', '.join(more)}" if more else ""
    return f"{len(kept)} left{beside}"


def _after(before: Standing, outcome: Outcome) -> Standing:
    if outcome.failed is not None:
        return replace(before, failed=outcome.failed, cached=False)
    return replace(
        before,
        record=outcome.record,
        rounds=before.rounds + 1,
        cached=before.cached and outcome.cached,
    )


def _teller(watch: Watch, stage: str, total: int) -> Tell:
    def tell(done: int, note: str) -> None:
        watch.progress(stage, min(done, total - 1), total, note)

    return tell
