"""The way out: what would have to change for a budget to hold, the cheapest first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekd.budget import LATENCY, METRICS, Budget, Clause, Ruling, bad_end, shown
from edgekd.flow.mission import worth
from edgekd.flow.mission.plans import Attempt, Decision
from edgekd.flow.mission.scouted import (
    Factors,
    Form,
    Student,
    expected,
    factors_of,
    nearest,
    told_end,
)
from edgekd.flow.mission.wording import name_of, said, students_that_fit

MOST = 5
"""Sentences."""
UNSURE = 1e6
"""Added to the cost of what nobody knows the accuracy of."""


@dataclass(frozen=True)
class Way:
    """What to change, and how much of a change it is."""

    change: str
    """What to do: ``allow p95<=35ms``."""
    because: str
    """Which student would do then."""
    cost: float = math.inf
    """The sum of what :func:`times_missed` says beyond 1; what changes no bound comes after."""

    def __str__(self) -> str:
        return f"{self.change}: {self.because}"


def best_of(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt that is nearest to the budget."""
    measured = [attempt for attempt in attempts if attempt.rulings]
    return min(measured, key=_distance, default=None)


def ways_out(budget: Budget, attempts: Sequence[Attempt], students: Sequence[Student]) -> list[Way]:
    """What would make the budget hold; the smallest change first."""
    best = best_of(attempts)
    ways = [way for attempt in attempts for way in _relaxed(attempt)]
    tried = {attempt.plan.student for attempt in attempts}
    left = [student for student in students if (student.network, student.size) not in tried]
    if best is not None and _hopeless(best):
        left = []  # whoever keeps the other bounds, these images do not show it
    unsure = best is not None and bool(budget.worth)
    ways += _untried(budget, left, factors_of(attempts, students), unsure=unsure)
    unique = {way.change: way for way in sorted(ways, key=lambda way: way.cost, reverse=True)}
    more = [*_more_images(best), *_faster(_ends(short_of(best)))] if best else []
    if not attempts:
        more = [*_faster_untrained(budget, students)]
    return [*sorted(unique.values(), key=lambda way: way.cost)[: MOST - len(more)], *more]


def not_tried(ended: Decision, attempts: Sequence[Attempt]) -> list[Way]:
    """What the same command could do with more attempts, or with longer ones.

    Neither helps where these images cannot show a bound whoever is trained: more of them may, but
    not where those there are show that it does not hold.
    """
    ways, best = [], best_of(attempts)
    if best is not None and _hopeless(best):
        failed = any(ruling.state == "fails" for ruling in best.worth_short)
        return [] if best.cost_short or failed else list(_enough_images(best))
    if ended.untried:
        more = len(attempts) + min(ended.untried, max(len(attempts), 1))
        because = f"{students_that_fit(ended.untried)} not tried"
        ways.append(Way(f"give --attempts {more}", because))
    if best is not None and best.worth_short and not best.cost_short:
        longest = max(attempt.plan.epochs for attempt in attempts)
        because = f"the costs of {name_of(best)} hold, and only its accuracy is short"
        ways.append(Way(f"train longer, with --epochs {2 * longest}", because))
    return ways


def short_of(attempt: Attempt) -> tuple[Ruling, ...]:
    """All that was not shown to hold, each metric once: the worse of two measurements."""
    worst: dict[str, Ruling] = {}
    for ruling in (*attempt.rulings, *(attempt.again or ())):
        metric = ruling.clause.metric
        known = worst.get(metric)
        if ruling.state != "holds" and (known is None or ruling.excess > known.excess):
            worst[metric] = ruling
    return tuple(worst.values())


def _distance(attempt: Attempt) -> tuple[float, int]:
    """How far all clauses together are from holding."""
    short = short_of(attempt)
    return sum(_relative(ruling) for ruling in short), len(short)


def _relaxed(attempt: Attempt) -> Iterator[Way]:
    short = short_of(attempt)
    ends = [(ruling, bad_end(ruling.clause, ruling.figure)) for ruling in short]
    if not ends or any(end is None for _, end in ends):
        return
    clauses = [_allowed(ruling.clause, end) for ruling, end in ends if end is not None]
    found = ", ".join(said(ruling) for ruling, _ in ends)
    cost = sum(_relative(ruling) for ruling in short)
    yield Way(f"allow {' and '.join(clauses)}", f"{name_of(attempt)} has {found}", cost)


def times_missed(clause: Clause, end: float) -> float:
    """How many times a bound what was found is, or the bound what was found; 1 where it is met.

    One scale for all bounds, whether they are to be kept small or large; of a bound that is 0, each
    point of accuracy counts as one time.
    """
    if clause.sense == "<=":
        found = end / clause.bound if clause.bound else 1 + 100 * end
    else:
        found = clause.bound / end if end > 0 else math.inf
    return max(found, 1.0)


def _relative(ruling: Ruling) -> float:
    """How much of a change of its bound a figure asks for; infinite without a figure."""
    end = bad_end(ruling.clause, ruling.figure)
    return math.inf if end is None else times_missed(ruling.clause, end) - 1


def _untried(
    budget: Budget, students: Sequence[Student], factors: Factors, *, unsure: bool
) -> Iterator[Way]:
    """By the scout's figures alone: what nobody trained comes after what was measured."""
    for student in students:
        for form in student.forms:
            over = list(_over(budget, form, factors))
            if not over:
                continue
            clauses = [_allowed(clause, value) for clause, value in over]
            found = ", ".join(told_end(form, clause, end) for clause, end in over)
            because = f"{student.name} in {form.precision} was scouted at {found}, untrained"
            change = sum(times_missed(clause, end) - 1 for clause, end in over)
            cost = change + (UNSURE if unsure else 0.0)
            yield Way(f"allow {' and '.join(clauses)}", because, cost)


def _over(budget: Budget, form: Form, factors: Factors) -> Iterator[tuple[Clause, float]]:
    for clause in budget.costs:
        value = expected(form, clause, factors)
        if value is not None and (
            value > clause.bound if clause.sense == "<=" else value < clause.bound
        ):
            yield clause, value


def _hopeless(best: Attempt) -> list[Clause]:
    """The bounds on accuracy that its images could not show if it were right on all of them."""
    if best.validation is None:
        return []
    short = [ruling.clause for ruling in best.worth_short]
    return [clause for clause in short if not worth.could_hold(clause, best.validation)]


def _enough_images(best: Attempt) -> Iterator[Way]:
    """So many that they could show each bound; none where no number could."""
    hopeless, count = _hopeless(best), (best.validation or {})["n"]
    needs = [worth.images_needed(worth.room_of(clause), count) for clause in hopeless]
    if all(needs):
        bounds = " and ".join(clause.text for clause in hopeless)
        yield Way(
            f"give at least {max(needs):,} validation images in place of {count:,}, and as many "
            "test images",
            f"{count:,} cannot show {bounds}, even where every answer is right",
        )


def _more_images(best: Attempt) -> Iterator[Way]:
    """Where the value itself is within, more images would show it."""
    count = (best.validation or {}).get("n")
    for ruling in best.worth_short:
        figure, bound = ruling.figure, ruling.clause.bound
        end = bad_end(ruling.clause, figure)
        if ruling.state != "open" or count is None or figure.value is None or end is None:
            continue
        if ruling.clause in _hopeless(best):
            continue
        room = abs(bound - figure.value)
        if _inside(ruling) and room:
            needed = math.ceil(count * ((end - figure.value) / room) ** 2)
            yield Way(
                f"give about {_upwards(needed, 2):,.0f} validation images in place of {count:,}",
                f"{said(ruling)} would hold if its value stayed",
            )


def _faster(short: Sequence[tuple[Clause, float | None]], who: str = "") -> Iterator[Way]:
    """Where nothing but time is missing; of each clause the bad end of what was found."""
    if not short or any(clause.metric not in (*LATENCY, "fps") for clause, _ in short):
        return
    times = max(math.inf if end is None else times_missed(clause, end) for clause, end in short)
    if math.isfinite(times):
        yield Way(
            f"take a device that is {_upwards(times, 2):,.4g} times as fast",
            f"nothing but time is missing{who}",
        )


def _faster_untrained(budget: Budget, students: Sequence[Student]) -> Iterator[Way]:
    """The same of the student that was scouted nearest to the budget."""
    near = nearest(students, budget)
    if near is not None:
        student, form = near
        yield from _faster(
            [*_over(budget, form, {})], f" for {student.name} in {form.precision}, untrained"
        )


def _ends(short: Sequence[Ruling]) -> list[tuple[Clause, float | None]]:
    return [(ruling.clause, bad_end(ruling.clause, ruling.figure)) for ruling in short]


def _inside(ruling: Ruling) -> bool:
    value = ruling.figure.value
    assert value is not None
    bound = ruling.clause.bound
    return value <= bound if ruling.clause.sense == "<=" else value >= bound


def _allowed(clause: Clause, end: float) -> str:
    """A bound that a figure would keep, in round numbers: ``p95<=35ms``."""
    scale = 100 if METRICS[clause.metric].unit == "%" else 1
    if clause.sense == "<=":
        rounded = _upwards(end * scale, 2) / scale
    else:
        rounded = -_upwards(-end * scale, 2 if scale == 1 else 3) / scale
    return f"{clause.metric}{clause.sense}{shown(clause.metric, rounded)}"


def _upwards(value: float, digits: int) -> float:
    """Rounded up to so many digits."""
    if not value:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1)
    return round(math.ceil(value / step - 1e-9) * step, 12)
