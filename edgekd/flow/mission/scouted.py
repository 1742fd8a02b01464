"""Scouted: what the scout found of each student, corrected by what attempts measured since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from edgekd.budget import LATENCY, Budget, Clause, Figure, bad_end, shown
from edgekd.flow.mission.plans import Attempt, Limits, Plan
from edgekd.flow.mission.steadiness import STABLE

TAILS = {"p95": 1.3, "p99": 1.6}
"""What a tail is taken to be over the median where nobody measured one."""
MIDDLE = "p50"

Factors = Mapping[str, float]
"""Metric -> measured over scouted; of those that were only guessed apart, by their own names."""


@dataclass(frozen=True)
class Form:
    """A student in one precision."""

    precision: str
    figures: Mapping[str, Figure]
    guessed: frozenset[str] = frozenset()
    """Metrics that were taken from the median, for want of runs."""
    state: str = STABLE
    """What the verdict on its measurement says: ``noisy`` and so on."""


@dataclass(frozen=True)
class Student:
    """A network at one size, as the scout found it."""

    network: str
    size: int
    parameters: int
    macs: int
    prior: float | None
    basis: str
    forms: tuple[Form, ...]

    @property
    def name(self) -> str:
        return f"{self.network} at {self.size} px"

    @property
    def rank(self) -> tuple[float, int]:
        """By the prior; without one, larger ones are thought to know more."""
        return (-1.0 if self.prior is None else self.prior, self.macs)

    @property
    def thought(self) -> str:
        """Its prior in words."""
        if self.prior is None:
            return f"no prior, {self.macs / 1e6:.3g} M multiply-accumulates"
        return f"prior {100 * self.prior:.1f} % ({self.basis})"


def students_of(found: Mapping[str, Any]) -> list[Student]:
    """The students of ``scout.json`` that could be measured, best prior first."""
    rows = [row for row in found["candidates"] if not row.get("failed") and _median(row)]
    tails = {name: _tail(rows, name) for name in TAILS}
    grouped: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["name"], row["size"]), []).append(row)
    made = [_student(group, tails) for group in grouped.values()]
    return sorted(made, key=lambda student: student.rank, reverse=True)


def factors_of(attempts: Sequence[Attempt], students: Sequence[Student]) -> dict[str, float]:
    """By how much what was measured is more than what was scouted; the median of the attempts."""
    ratios: dict[str, list[float]] = {}
    known = {(s.network, s.size, f.precision): f for s in students for f in s.forms}
    for attempt in attempts:
        form = known.get((*attempt.plan.student, attempt.made.precision))
        found = {r.clause.metric: r.figure.value for r in attempt.rulings}
        for metric, now in ({MIDDLE: attempt.median} | found).items() if form else ():
            before = form and form.figures.get(metric)
            if form and before and before.value and now:
                ratios.setdefault(_kind(metric, form), []).append(now / before.value)
    return {metric: median(found) for metric, found in ratios.items()}


def load(form: Form, budget: Budget, factors: Factors) -> float:
    """The worst clause's bad end as a share of what the bound allows: up to 1 is within."""
    return max(_loads(form, budget, factors), default=0.0)


def allowed(students: Sequence[Student], limits: Limits) -> list[Student]:
    """Those that are not larger than the teacher, in parameters as well as in work."""
    if limits.largest is None:
        return list(students)
    parameters, macs = limits.largest
    return [s for s in students if s.parameters <= parameters or s.macs <= macs]


def median_of(students: Sequence[Student], plan: Plan) -> float | None:
    """Milliseconds that a plan's student was scouted at; None where the scout does not know it.

    Of a precision that was not scouted, such as ``auto``, those of the slowest that was.
    """
    forms = [form for s in students if (s.network, s.size) == plan.student for form in s.forms]
    exact = [form for form in forms if form.precision == plan.precision]
    known = [form.figures[MIDDLE].value for form in exact or forms]
    return max((value for value in known if value is not None), default=None)


def nearest(students: Sequence[Student], budget: Budget) -> tuple[Student, Form] | None:
    """The student that is nearest to the costs a budget allows, and in which precision."""
    pairs = [(student, form) for student in students for form in student.forms]
    return min(pairs, key=lambda pair: load(pair[1], budget, {}), default=None)


def told(form: Form, budget: Budget, factors: Factors) -> str:
    """What is expected of the clauses on costs: ``p95 12.3ms of at most 30ms``."""
    parts = []
    for clause in budget.costs:
        value = _bad(form, clause, factors)
        if value is not None:
            bound = "at most" if clause.sense == "<=" else "at least"
            wanted = shown(clause.metric, clause.bound)
            parts.append(f"{told_end(form, clause, value)} of {bound} {wanted}")
    return ", ".join(parts) or "the budget bounds no cost"


def told_end(form: Form, clause: Clause, end: float) -> str:
    """The bad end of what is expected, and that it is no more than that: ``p95 up to 12.3ms``."""
    figure, text = form.figures[clause.metric], shown(clause.metric, end)
    if clause.metric in form.guessed:
        return f"{clause.metric} about {text} (from its median)"
    if figure.lo is None or figure.hi is None:
        return f"{clause.metric} {text}"
    return f"{clause.metric} {'up' if clause.sense == '<=' else 'down'} to {text}"


def expected(form: Form, clause: Clause, factors: Factors) -> float | None:
    """The bad end that is expected of a clause's metric."""
    return _bad(form, clause, factors)


def _loads(form: Form, budget: Budget, factors: Factors) -> Iterator[float]:
    for clause in budget.costs:
        value = _bad(form, clause, factors)
        if value is not None:  # what the scout does not measure, an attempt will
            yield value / clause.bound if clause.sense == "<=" else clause.bound / value


def _bad(form: Form, clause: Clause, factors: Factors) -> float | None:
    figure = form.figures.get(clause.metric)
    end = None if figure is None else bad_end(clause, figure)
    return None if end is None else end * _factor(form, clause.metric, factors)


def _factor(form: Form, metric: str, factors: Factors) -> float:
    """By what the like of it was off; a time of which nothing is known is off as the median is."""
    found = factors.get(_kind(metric, form))
    if found is not None:
        return found
    pace = factors.get(MIDDLE, 1.0)
    return pace if metric in LATENCY else 1 / pace if metric == "fps" else 1.0


def _kind(metric: str, form: Form) -> str:
    """A guess says nothing of what was measured, and is corrected by other guesses."""
    return f"{metric} from the median" if metric in form.guessed else metric


def _student(rows: Sequence[Mapping[str, Any]], tails: Mapping[str, float]) -> Student:
    first = rows[0]
    prior = first["prior"] or {}
    return Student(
        first["name"],
        first["size"],
        first["parameters"],
        first["macs"],
        prior.get("value"),
        prior.get("basis") or "none",
        tuple(_form(row, tails) for row in rows),
    )


def _form(row: Mapping[str, Any], tails: Mapping[str, float]) -> Form:
    figures = dict(_figures(row))
    guessed = frozenset(set(tails) - set(figures))
    middle = figures[MIDDLE]
    for name in guessed:
        high = middle.value if middle.hi is None else middle.hi
        figures[name] = Figure((high or 0.0) * tails[name])
    return Form(row.get("precision") or "fp32", figures, guessed, row.get("state") or STABLE)


def _figures(row: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    """What was measured of a candidate; what the budget names comes as it was ruled on."""
    yield MIDDLE, _figure(row["median"])
    for name in TAILS:
        if (row.get(name) or {}).get("value") is not None:
            yield name, _figure(row[name])
    if row.get("mean") is not None:
        yield "mean", Figure(row["mean"], *(row.get("mean_interval") or (None, None)))
        yield "fps", Figure(1e3 / row["mean"])  # of one image a run; else as it was ruled on
    for name, key in (("size_mb", "size_bytes"), ("peak_mb", "peak_bytes")):
        if row.get(key):
            yield name, Figure(row[key] / 1e6)
    for ruling in row.get("rulings") or ():
        if ruling["value"] is not None:
            yield ruling["metric"], Figure(ruling["value"], ruling["lo"], ruling["hi"])


def _tail(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """A percentile over the median, the middle of all that have both: one may be disturbed."""
    found = [
        row[name]["value"] / row["median"]["value"]
        for row in rows
        if (row.get(name) or {}).get("value") is not None
    ]
    return median(found) if found else TAILS[name]


def _median(row: Mapping[str, Any]) -> float | None:
    value = (row.get("median") or {}).get("value")
    return None if value is None else float(value)


def _figure(found: Mapping[str, Any]) -> Figure:
    return Figure(found["value"], found.get("lo"), found.get("hi"))
