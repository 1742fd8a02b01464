"""The ladder: what is tried next, decided by figures alone; the same figures decide the same.

A cost that does not hold leads to the next precision, then to a smaller student or a lower
resolution; an accuracy that does not, to another precision, a longer training, then to the next
best student. The scout's figures are corrected by what the attempts measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgekd.budget import ACCURACY, LATENCY, Budget, Ruling
from edgekd.flow.mission.plans import Attempt, Decision, Limits, Other, Plan, Rung
from edgekd.flow.mission.scouted import (
    Factors,
    Student,
    allowed,
    factors_of,
    load,
    nearest,
    told,
)
from edgekd.flow.mission.steadiness import QUIET, STABLE, brief
from edgekd.flow.mission.wording import against, name_of, points, students_that_fit

AUTO, FLOAT, SMALLEST = "auto", "fp32", "int8"
SPARE = 0.1
"""What int8 may lose where the budget bounds no accuracy, as a share."""


@dataclass(frozen=True)
class _Scene:
    """All that a decision rests on."""

    students: Sequence[Student]
    budget: Budget
    attempts: Sequence[Attempt]
    limits: Limits

    @property
    def factors(self) -> Factors:
        return factors_of(self.attempts, self.students)

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]


def next_plan(
    students: Sequence[Student], budget: Budget, attempts: Sequence[Attempt], limits: Limits
) -> Decision:
    """What to try next.

    Args:
        students: as the scout found them.
        budget: what has to hold.
        attempts: those so far, in order, none of which holds.
        limits: how many, with how much margin, and so on.

    Returns:
        A plan and why; or none, and why.
    """
    scene = _Scene(students, budget, attempts, limits)
    if not attempts:
        return _first(scene)
    found = _next(scene)
    return found if found.plan is None or len(attempts) < limits.attempts else _used(scene)


def _used(scene: _Scene) -> Decision:
    """There would be more to try."""
    count = scene.limits.attempts
    used = f"all {count} attempts are used" if count > 1 else "the one attempt is used"
    untried = sum(_fits(student, scene, 1.0, floats_only=False) for student in _left(scene))
    if untried:
        used += f", and {students_that_fit(untried)} not tried"
    return Decision(None, used, True, untried)


def _next(scene: _Scene) -> Decision:
    last = scene.last
    if last.cost_short:
        return _lower_precision(scene) or _another(scene, against(last.cost_short))
    if last.worth_short:
        words = against(last.worth_short)
        return _other_precision(scene) or _longer(scene, words) or _another(scene, words)
    return _another(scene, last.refused or "it could not be made")


def _first(scene: _Scene) -> Decision:
    found = _best(scene)
    if found is None:
        near = nearest(_allowed(scene), scene.budget)
        if near is None:
            return Decision(None, "the scout measured no student that is smaller than the teacher")
        student, form = near
        return Decision(
            None,
            f"no candidate fits the budget; the nearest is {student.name} in {form.precision}: "
            f"{told(form, scene.budget, {})}{_unsteady(scene)}",
        )
    student, how = found
    why = f"{student.name} has the best prior of those that fit{how}: {_known(student, scene)}"
    return _decided(scene, student, "first", why)


def _another(scene: _Scene, short: str) -> Decision:
    """The most accurate student that fits, of those that were not tried."""
    found, last = _best(scene), scene.last.plan
    if found is None:
        return Decision(None, f"{last.network} at {last.size} px: {short}; no other student fits")
    student, how = found
    before = {(s.network, s.size): s for s in scene.students}.get(last.student)
    rung: Rung = "smaller" if before and student.macs < before.macs else "other"
    if student.network == last.network:
        rung = "resolution" if student.size < last.size else "other"
    words = {"smaller": "a smaller student", "resolution": "a lower resolution"}
    why = (
        f"{last.network} at {last.size} px: {short}; {words.get(rung, 'another student')}: "
        f"{student.name} has the best prior of those left that fit{how}: {_known(student, scene)}"
    )
    return _decided(scene, student, rung, why)


def _decided(scene: _Scene, student: Student, rung: Rung, why: str) -> Decision:
    limits = scene.limits
    name, drop = limits.precision, limits.max_drop
    return Decision(Plan(student.network, student.size, limits.epochs, name, drop, rung, why), why)


def _best(scene: _Scene) -> tuple[Student, str] | None:
    """The best prior among what is left and fits: with the margin, else within the bound.

    Once int8 lost too much, students that fit without it come first.
    """
    left = _left(scene)
    doubted = any(o.inaccurate for attempt in scene.attempts for o in attempt.made.others)
    corrected = "" if not scene.attempts else ", corrected by what was measured"
    margin = 1 + scene.limits.margin
    for floats_only in (True, False) if doubted else (False,):
        for slack, words in ((margin, f"with {scene.limits.margin:.0%} margin"), (1.0, "barely")):
            fitting = [s for s in left if _fits(s, scene, slack, floats_only=floats_only)]
            if fitting:
                best = max(fitting, key=lambda s: s.rank)
                some = " without int8" if floats_only else ""
                return best, f" {words}{some} ({len(fitting)} of {len(left)}{corrected})"
    return None


def _left(scene: _Scene) -> list[Student]:
    """Those nobody tried."""
    tried = {attempt.plan.student for attempt in scene.attempts}
    return [s for s in _allowed(scene) if (s.network, s.size) not in tried]


def _allowed(scene: _Scene) -> list[Student]:
    return allowed(scene.students, scene.limits)


def _fits(student: Student, scene: _Scene, slack: float, *, floats_only: bool) -> bool:
    forms = (f for f in student.forms if f.precision == FLOAT or not floats_only)
    return any(load(form, scene.budget, scene.factors) * slack <= 1 for form in forms)


def _known(student: Student, scene: _Scene) -> str:
    factors = scene.factors
    form = min(student.forms, key=lambda f: load(f, scene.budget, factors))
    text = f"{student.thought}; {told(form, scene.budget, factors)} in {form.precision}"
    return text + brief([form.state]) + _passed_over(student, scene)


def _passed_over(student: Student, scene: _Scene) -> str:
    """How many would have come first, but for a figure that is no good one."""
    better = [
        s
        for s in _left(scene)
        if s.rank > student.rank and not _fits(s, scene, 1.0, floats_only=False)
    ]
    count = sum(any(form.state != STABLE for form in s.forms) for s in better)
    return f" (not stable: {count} of {len(better)} that know more and do not fit)" if count else ""


def _unsteady(scene: _Scene) -> str:
    """How many of the scout's figures are no good ones, where none of them fits."""
    states = [form.state for student in _allowed(scene) for form in student.forms]
    count = sum(state != STABLE for state in states)
    return f" (not stable: {count} of {len(states)} scouted figures; {QUIET})" if count else ""


def _lower_precision(scene: _Scene) -> Decision | None:
    """Int8 with what the budget leaves of accuracy, where ``auto`` left it out."""
    last = scene.last
    if scene.limits.precision != AUTO or _tried(scene, SMALLEST):
        return None
    lower = next((o for o in last.made.others if o.precision == SMALLEST), None)
    if last.made.precision == SMALLEST or lower is None:
        return None
    short, spare = against(last.cost_short), _spare(last)
    if not lower.refused:
        if not _helps(lower, last):
            return None
        why = f"{name_of(last)}: {short}; int8 was no faster, but it is what fits"
        return _precision(last, SMALLEST, last.plan.max_drop, why)
    known = {(s.network, s.size): s for s in scene.students}.get(last.plan.student)
    forms = [f for f in known.forms if f.precision == SMALLEST] if known else []
    if forms and load(forms[0], scene.budget, scene.factors) > 1:
        return None
    if not lower.inaccurate or spare <= last.plan.max_drop:
        return None
    why = (
        f"{name_of(last)}: {short}; int8 was refused with {points(last.plan.max_drop)} of accuracy "
        f"to lose, and the budget leaves {points(spare)}"
    )
    return _precision(last, SMALLEST, spare, why)


def _other_precision(scene: _Scene) -> Decision | None:
    """A higher precision that ``auto`` made and did not choose, where it fits and could do."""
    last = scene.last
    if last.plan.precision == FLOAT or last.made.lost <= 0:
        return None
    gap = max(_gap(ruling) for ruling in last.worth_short)
    if gap > last.made.lost:
        return None
    for other in last.made.others:
        if other.refused or _tried(scene, other.precision) or not _within(other, last):
            continue
        why = (
            f"{name_of(last)}: {against(last.worth_short)}; {last.made.precision} may have lost "
            f"{points(last.made.lost)} of it, and {other.precision} should fit as well"
        )
        return _precision(last, other.precision, last.plan.max_drop, why)
    return None


def _longer(scene: _Scene, short: str) -> Decision | None:
    """Twice the epochs, once for each student."""
    last = scene.last
    longest = max(a.plan.epochs for a in scene.attempts if a.plan.student == last.plan.student)
    if longest > scene.limits.epochs:
        return None
    epochs = 2 * last.plan.epochs
    why = f"{name_of(last)}: {short}; its costs hold, so it learns twice as long, {epochs} epochs"
    return Decision(replace(last.plan, epochs=epochs, rung="longer", why=why), why)


def _precision(last: Attempt, precision: str, max_drop: float, why: str) -> Decision:
    changed = replace(last.plan, precision=precision, max_drop=round(max_drop, 4))
    return Decision(replace(changed, rung="precision", why=why), why)


def _tried(scene: _Scene, precision: str) -> bool:
    """Whether this very student was exported so already."""
    key = scene.last.plan.key
    return any(
        precision in (attempt.plan.precision, attempt.made.precision)
        for attempt in scene.attempts
        if attempt.plan.key == key
    )


def _spare(last: Attempt) -> float:
    """Accuracy that the budget leaves to lose."""
    worth = (ruling for ruling in last.rulings if ruling.clause.metric in ACCURACY)
    return min((-_gap(ruling, of_value=True) for ruling in worth), default=SPARE)


def _gap(ruling: Ruling, *, of_value: bool = False) -> float:
    """Accuracy that is missing, as a share: at the bad end, or by the value itself."""
    figure, below = ruling.figure, ruling.clause.sense == "<="
    end = figure.value if of_value else figure.hi if below else figure.lo
    if end is None:
        return float("inf")
    return end - ruling.clause.bound if below else ruling.clause.bound - end


def _helps(other: Other, last: Attempt) -> bool:
    """Whether a precision that is no faster is what the sizes in the budget need."""
    sizes = [r for r in last.cost_short if r.clause.metric == "size_mb"]
    return len(sizes) == len(last.cost_short) and _within(other, last)


def _within(other: Other, last: Attempt) -> bool:
    """Whether another precision of the same student should keep latencies and size."""
    for ruling in last.rulings:
        metric, value = ruling.clause.metric, ruling.figure.value
        if metric == "size_mb":
            value = None if other.size_bytes is None else other.size_bytes / 1e6
        elif metric in (*LATENCY, "fps") and value is not None:
            pace = (other.ratio or 1.0) / (last.made.ratio or 1.0)
            value = value / pace if metric == "fps" else value * pace
        else:
            continue
        bound, small = ruling.clause.bound, ruling.clause.sense == "<="
        if value is not None and (value > bound if small else value < bound):
            return False
    return True
