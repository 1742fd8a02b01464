"""Verdict: what a mission ended with, in a sentence and for ``run.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgekd.budget import Budget, Ruling
from edgekd.flow.mission.outcomes import Outcome
from edgekd.flow.mission.plans import Attempt, Decision, ruling_from, state_of
from edgekd.flow.mission.scouted import Student
from edgekd.flow.mission.steadiness import QUIET, decided, doubt, stability
from edgekd.flow.mission.wayout import MOST, Way, best_of, not_tried, short_of, ways_out
from edgekd.flow.mission.wording import against, name_of, said


@dataclass(frozen=True)
class Ending:
    """All there is to tell."""

    budget: Budget
    device: str
    outcomes: Sequence[Outcome]
    students: Sequence[Student]
    ended: Decision
    """Why nothing more was tried; nothing where an attempt held."""
    doubts: str = ""
    """Why the teacher is no measure of what a student loses; nothing where it is one."""

    @property
    def attempts(self) -> list[Attempt]:
        return [outcome.attempt for outcome in self.outcomes]

    @property
    def accepted(self) -> Outcome | None:
        """The one that held on validation images, and whose costs held twice."""
        return next((o for o in self.outcomes if o.confirmed is not None), None)

    @property
    def tested(self) -> list[Ruling]:
        """On accuracy, by the test images."""
        found = self.accepted
        rows = found.confirmed["rulings"] if found and found.confirmed else []
        return [ruling_from(row, self.budget) for row in rows]

    @property
    def state(self) -> str:
        """``holds``, ``infeasible`` or ``open``.

        Infeasible takes that nothing is left to try, and that no attempt is open.
        """
        if self.accepted is not None:
            found = state_of(self.tested)
            return {"holds": "holds", "open": "open"}.get(found, "infeasible")
        undecided = any(state_of(decided(each)) == "open" for each in self.attempts if each.rulings)
        return "open" if undecided or self.ended.more else "infeasible"

    @property
    def rulings(self) -> tuple[Ruling, ...]:
        """The final ones: costs as they were confirmed, accuracy on the test images.

        Where two measurements contradict each other, the worse one.
        """
        if self.accepted is None:
            best = best_of(self.attempts)
            worst = {r.clause.metric: r for r in short_of(best)} if best else {}
            return tuple(worst.get(r.clause.metric, r) for r in best.rulings) if best else ()
        final = {r.clause.metric: r for r in (*decided(self.accepted.attempt), *self.tested)}
        return tuple(final[clause.metric] for clause in self.budget.clauses)

    @property
    def way_out(self) -> list[Way]:
        """What would make it hold; the test images choose nothing, not even a way."""
        if self.accepted is not None:
            return []
        first = not_tried(self.ended, self.attempts)
        return [*first, *ways_out(self.budget, self.attempts, self.students)][:MOST]

    @property
    def sentence(self) -> str:
        if self.accepted is not None:
            return self._accepted(self.accepted.attempt)
        best, ways = best_of(self.attempts), self.way_out
        way = f"; the cheapest way out is to {ways[0].change}" if ways else ""
        if best is None:
            return f"{self.state}: {self.ended.why}{way}"
        short = short_of(best)
        rest = [r for r in best.rulings if r.clause.metric not in {s.clause.metric for s in short}]
        beside = f" ({', '.join(said(r) for r in rest)})" if rest else ""
        word = "infeasible" if self.state == "infeasible" else "open"
        which = "the best found is" if word == "infeasible" else "not shown to hold by"
        doubts = doubt(best, QUIET if best.cost_short else "")
        why = f"; {self.ended.why}" if self.ended.more else ""
        return f"{word}: {which} {name_of(best)}: {against(short)}{beside}{doubts}{why}{way}"

    def _accepted(self, attempt: Attempt) -> str:
        figures = ", ".join(said(ruling) for ruling in self.rulings) + self._beside
        name, doubts = name_of(attempt), doubt(attempt)
        if self.state == "holds":
            return f"holds: {name}: {figures}{doubts}"
        short = against([r for r in self.tested if r.state != "holds"])
        word = "is not shown to hold" if self.state == "open" else "does not hold"
        return (
            f"{self.state}: {name} held on validation images and {word} on the test "
            f"images, which decide nothing but this: {short}{doubts}"
        )

    @property
    def _beside(self) -> str:
        """The accuracy on the test images, where no clause says it."""
        test = self.accepted.confirmed["test"] if self.accepted and self.accepted.confirmed else {}
        if self.budget.worth or "interval" not in test:
            return ""
        low, high = test["interval"]
        return (
            f"; it is right on {test['top1']:.1%} [{low:.1%}, {high:.1%}] of the test images, "
            f"the teacher on {test['teacher']:.1%}; the budget does not bound it"
        )

    def to_dict(self) -> dict[str, Any]:
        """The ``budget`` section of ``run.json``."""
        accepted, best = self.accepted, best_of(self.attempts)
        shown = accepted.attempt if accepted else best
        found = stability(shown) if shown else None
        test = accepted.confirmed["test"] if accepted and accepted.confirmed else None
        return {
            "expression": str(self.budget),
            "device": self.device,
            "state": self.state,
            "sentence": self.sentence,
            "rulings": [ruling.to_dict() for ruling in self.rulings],
            "way_out": [str(way) for way in self.way_out],
            "artifact": "artifact" if self.state == "holds" else None,
            "best": shown.plan.key if shown else None,
            "stability": asdict(found) if found else None,
            "attempts": [attempt.to_dict() for attempt in self.attempts],
            "stopped": self.ended.why or None,
            "teacher": self.doubts or None,
            "test": test,
        }
