"""Ranking: who goes on, by what was measured so far and by what is known without a training.

All of it is arithmetic on records; nothing is measured here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgekd.budget import (
    LATENCY,
    Budget,
    Clause,
    Figure,
    Ruling,
    bad_end,
    figures_of,
    rule,
    rule_all,
    shown,
)
from edgekd.scouting.candidates import Candidate

Fit = Literal["fits", "tight", "unknown", "over"]
WORSE: tuple[Fit, ...] = ("fits", "tight", "unknown", "over")
"""From the best to the worst."""
RARE = frozenset({"p95", "p99"})
"""What few runs say nothing of, while their median is a bound from below."""
FINALISTS = 4
"""So many are left to choose from, at least."""
HOPELESS = 1.0
"""Beyond a bound by so large a share of it, a better timing makes no difference."""


@dataclass(frozen=True)
class Entry:
    """A candidate in a precision."""

    candidate: Candidate
    precision: str = "fp32"

    @property
    def key(self) -> str:
        """Such as ``resnet8-32px``, or ``resnet8-32px-int8``; safe as a file's name."""
        plain = self.precision == "fp32"
        return self.candidate.key if plain else f"{self.candidate.key}-{self.precision}"


@dataclass(frozen=True)
class Standing:
    """What is known of an entry so far."""

    entry: Entry
    record: Mapping[str, Any] | None = None
    """Its latest measurement."""
    rounds: int = 0
    """How many it was in."""
    cached: bool = True
    """Whether all its measurements were there already."""
    dropped: str | None = None
    """Why it is not looked at any further."""
    failed: str | None = None
    """Why it could not be measured."""

    @property
    def prior(self) -> float | None:
        return self.entry.candidate.prior.value


@dataclass(frozen=True)
class Verdict:
    """How an entry stands to a budget's costs."""

    fits: Fit
    nearness: float
    """The largest share of a bound by which it is beyond it; 0 within, infinite where that cannot
    be said."""
    rulings: tuple[Ruling, ...] = ()


def verdict(record: Mapping[str, Any], budget: Budget | None, margin: float) -> Verdict:
    """Hold what was measured against what it may cost.

    A percentile for which there were too few runs is over where the median is over already, and
    not decided otherwise.

    Args:
        record: a measurement.
        budget: its clauses on accuracy are not looked at; without one everything fits.
        margin: how much below a bound the bad end has to be to fit, as a share of the figure.
    """
    return judged(figures_of(record), budget, margin)


def judged(found: Mapping[str, Figure], budget: Budget | None, margin: float) -> Verdict:
    """As :func:`verdict`, of figures by metric."""
    clauses = budget.costs if budget is not None else ()
    parts = [_part(clause, found, margin) for clause in clauses]
    fits = WORSE[max((WORSE.index(part.fits) for part in parts), default=0)]
    nearness = max((part.nearness for part in parts), default=0.0)
    return Verdict(fits, nearness, tuple(ruling for part in parts for ruling in part.rulings))


def median_of(record: Mapping[str, Any]) -> Figure:
    """The median latency in ms, and its interval."""
    return figures_of(record)["p50"]


def ranked(
    standings: Sequence[Standing], budget: Budget | None, margin: float
) -> list[tuple[Standing, Verdict | None]]:
    """The best first: what fits by its prior, then the others by nearness, then what failed."""
    judged = [
        (each, None if each.record is None else verdict(each.record, budget, margin))
        for each in standings
    ]
    return sorted(judged, key=lambda pair: _place(*pair))


def front(standings: Sequence[Standing]) -> set[str]:
    """Keys of those that no other of their precision beats in prior and in median latency."""
    known = [s for s in standings if s.record is not None and s.prior is not None]
    return {s.entry.key for s in known if not any(_beats(other, s) for other in known)}


@dataclass(frozen=True)
class Cut:
    """What a round decided."""

    kept: list[Standing]
    dropped: dict[str, str]
    """Key -> why."""
    over: frozenset[str] = frozenset()
    """Keys of those that were dropped for what they cost, and for nothing else."""


def cut(standings: Sequence[Standing], budget: Budget | None, margin: float) -> Cut:
    """Keep the better half, and whatever is on the front and not clearly over.

    The half is filled with what may fit by the highest prior, then with what is nearest to
    fitting; what is clearly dominated comes after both. Of what is hopelessly over, a few are left.

    Args:
        standings: the measured ones of a round.
        budget: what they are held against.
        margin: as of :func:`verdict`.
    """
    verdicts = {s.entry.key: verdict(_record(s), budget, margin) for s in standings}
    by = {s.entry.key: _dominating(s, standings, verdicts) for s in standings}
    order = sorted(standings, key=lambda s: (by[s.entry.key] is not None, _want(s, verdicts)))
    half = [
        s
        for place, s in enumerate(order[: max(math.ceil(len(order) / 2), FINALISTS)])
        if place < FINALISTS or verdicts[s.entry.key].nearness <= HOPELESS
    ]
    on_front = front(standings)
    kept = [
        s
        for s in order
        if s in half or (s.entry.key in on_front and verdicts[s.entry.key].fits != "over")
    ]
    gone = [each for each in order if each not in kept]
    reasons = {s.entry.key: _reason(s, by[s.entry.key], verdicts[s.entry.key], kept) for s in gone}
    keys = (each.entry.key for each in gone)
    over = frozenset(k for k in keys if by[k] is None and verdicts[k].fits == "over")
    return Cut(kept, reasons, over)


def _part(clause: Clause, found: Mapping[str, Figure], margin: float) -> Verdict:
    """How one clause stands."""
    figure = found.get(clause.metric, Figure(None, why="not measured"))
    if figure.value is not None:
        ruling = rule(clause, figure)
        if ruling.state == "fails":
            return Verdict("over", ruling.excess, (ruling,))
        fits: Fit = "fits" if _with_margin(clause, figure, margin) else "tight"
        return Verdict(fits, ruling.excess, (ruling,))
    (plain,) = rule_all([clause], {clause.metric: figure})
    median = found["p50"]
    if clause.metric not in RARE or median.value is None:
        return Verdict("unknown", 0.0, (plain,))
    below = rule(clause, median)
    if below.state != "fails":
        return Verdict("unknown", 0.0, (plain,))
    why = f"{figure.why}; the median alone is {shown('p50', median.value)}"
    return Verdict("over", below.excess, (Ruling(clause, Figure(None, why=why), "unknown"),))


def _with_margin(clause: Clause, figure: Figure, margin: float) -> bool:
    bad = bad_end(clause, figure)
    assert bad is not None
    if clause.sense == "<=":
        return bad * (1 + margin) <= clause.bound
    return bad / (1 + margin) >= clause.bound


def _place(standing: Standing, found: Verdict | None) -> tuple[float, ...]:
    worth = _worth(standing)
    if found is None:
        return (2, 0.0, *worth)
    if found.fits == "fits":
        return (0, 0.0, *worth)
    return (1, found.nearness, *worth)


def _want(standing: Standing, verdicts: Mapping[str, Verdict]) -> tuple[float, ...]:
    found = verdicts[standing.entry.key]
    over = found.fits == "over"
    return (over, found.nearness if over else 0.0, *_worth(standing))


def _worth(standing: Standing) -> tuple[float, float]:
    """To sort by: the highest prior first; without one, whatever computes most."""
    prior = -1.0 if standing.prior is None else standing.prior
    return -prior, -float(standing.entry.candidate.macs)


def _beats(other: Standing, one: Standing) -> bool:
    """Whether one is no better in anything and worse in something, by the plain figures."""
    if other.entry.precision != one.entry.precision or other.prior is None or one.prior is None:
        return False
    theirs, own = _ms(other), _ms(one)
    return other.prior >= one.prior and theirs <= own and (other.prior, theirs) != (one.prior, own)


def _dominating(
    one: Standing, standings: Sequence[Standing], verdicts: Mapping[str, Verdict]
) -> Standing | None:
    """The fastest that has at least its prior, is clearly faster and fits no worse, if any."""
    if one.prior is None:
        return None
    own = median_of(_record(one))
    stands = WORSE.index(verdicts[one.entry.key].fits)
    better = [
        other
        for other in standings
        if other.entry.precision == one.entry.precision
        and other.prior is not None
        and other.prior >= one.prior
        and _end(median_of(_record(other)), "hi") < _end(own, "lo")
        and WORSE.index(verdicts[other.entry.key].fits) <= stands
    ]
    return min(better, key=_ms, default=None)


def _reason(
    standing: Standing, by: Standing | None, found: Verdict, kept: Sequence[Standing]
) -> str:
    """Why an entry is dropped, with the numbers."""
    if by is not None:
        ahead = f"{shown('p50', _ms(by))} against {shown('p50', _ms(standing))}"
        return f"{by.entry.key} promises no less and is faster: {ahead}"
    if found.fits == "over":
        worst = max(found.rulings, key=lambda ruling: _beyond(standing, ruling))
        return f"{found.nearness:.0%} beyond {worst.clause.text}, others are nearer"
    if standing.prior is None:
        return f"nothing is known of its accuracy, and {len(kept)} others fit as well"
    priors = [s.prior for s in kept if s.prior is not None and s.prior >= standing.prior]
    return f"{len(priors)} others promise at least {min(priors):.1%}, against {standing.prior:.1%}"


def _beyond(standing: Standing, ruling: Ruling) -> float:
    """How far over a clause; by the median where the percentile itself is not known."""
    if ruling.state == "fails":
        return ruling.excess
    if ruling.state == "unknown" and ruling.clause.metric in RARE:
        below = rule(ruling.clause, median_of(_record(standing)))
        return below.excess if below.state == "fails" else 0.0
    return 0.0


def axis_of(budget: Budget | None) -> str:
    """The latency that a budget speaks of; the median where it speaks of none."""
    named = budget.about(LATENCY) if budget is not None else ()
    return named[0].metric if named else "p50"


def _ms(standing: Standing) -> float:
    value = median_of(_record(standing)).value
    assert value is not None  # a median needs no more than one run
    return value


def _end(figure: Figure, name: Literal["lo", "hi"]) -> float:
    """An end of an interval; one that is not known clears nothing."""
    found: float | None = getattr(figure, name)
    return found if found is not None else math.inf if name == "hi" else -math.inf


def _record(standing: Standing) -> Mapping[str, Any]:
    assert standing.record is not None, f"{standing.entry.key} was not measured"
    return standing.record
