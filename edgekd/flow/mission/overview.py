"""Overview: what the scout found, and what came of an attempt, in a line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.budget import Budget, Ruling
from edgekd.flow.mission.plans import Attempt, Limits
from edgekd.flow.mission.scouted import Form, Student, allowed, load, told
from edgekd.flow.mission.steadiness import brief
from edgekd.flow.mission.wording import said, some

NEAREST = 3
"""Of those that do not fit, so many are named."""


def left_out(students: Sequence[Student], limits: Limits) -> str:
    """Which students are larger than the teacher; empty where none is."""
    kept = {(s.network, s.size) for s in allowed(students, limits)}
    larger = [s.name for s in students if (s.network, s.size) not in kept]
    if limits.largest is None or not larger:
        return ""
    parameters, macs = limits.largest
    return (
        f"{len(larger)} of {len(students)} scouted students {'is' if len(larger) == 1 else 'are'} "
        f"left out, larger than the teacher ({parameters / 1e6:.3g} M parameters, {macs / 1e6:.3g} "
        f"M multiply-accumulates): {some(larger)}."
    )


def overview(
    found: Mapping[str, Any], students: Sequence[Student], budget: Budget, limits: Limits
) -> str:
    """How many fit, which are nearest of the others, and how long it took to know."""
    best = [(_best_form(student, budget), student) for student in students]
    loads = [load(form, budget, {}) for form, _ in best]
    margin = 1 + limits.margin
    well, barely = (sum(each * slack <= 1 for each in loads) for slack in (margin, 1.0))
    seconds = sum(each["seconds"] for each in found.get("rounds") or ())
    text = (
        f"scouted {len(students)} student{'s' * (len(students) != 1)} in {seconds:.0f} s: "
        f"{well} fit with {limits.margin:.0%} margin"
    )
    if barely > well:
        text += f", {barely - well} more barely"
    over = sorted((pair for pair in zip(loads, best, strict=True) if pair[0] > 1), key=_first)
    near = [f"{s.name} ({told(form, budget, {})})" for _, (form, s) in over[:NEAREST]]
    return text + (f"; the nearest of the others: {', '.join(near)}." if near else ".")


def outcome_told(tried: Attempt) -> str:
    """What came of an attempt, in words."""
    if tried.refused:
        return f"refused: {tried.refused}"
    states = brief([c.state for c in tried.stability[:1]])
    return f"{tried.plan.key} in {tried.made.precision}: {figures_told(tried.rulings)}{states}."


def figures_told(rulings: Sequence[Ruling]) -> str:
    """Each figure with its clause, and whether it holds."""
    return ", ".join(f"{said(r)}, {r.clause.text}: {r.state}" for r in rulings)


def _best_form(student: Student, budget: Budget) -> Form:
    return min(student.forms, key=lambda form: load(form, budget, {}))


def _first(pair: tuple[float, Any]) -> float:
    return pair[0]
