"""Outcomes: what was measured of each plan, kept, and ruled on again where the question is another.

A measurement is of a file on a device, whatever the budget. So an outcome is kept for the plan
alone; under another budget, or as another attempt, the same figures are ruled on again, and only
what they cannot decide is measured again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgekd.budget import LATENCY, Budget, Ruling, figures_of, rule_all
from edgekd.errors import RecipeError
from edgekd.files import write_json
from edgekd.flow.mission import worth
from edgekd.flow.mission.ground import Ground
from edgekd.flow.mission.plans import Attempt, Plan, State, attempt_from, state_of
from edgekd.flow.mission.steadiness import condition_of, unsteady
from edgekd.flow.mission.teachers import excused
from edgekd.flow.policies import policy_for
from edgekd.recipe import Recipe, recipe_from
from edgekd.schema import OUTCOME


@dataclass(frozen=True)
class Outcome:
    """An attempt, the records behind it, and what the test images said if it was confirmed."""

    attempt: Attempt
    record: Mapping[str, Any] | None = None
    confirmed: Mapping[str, Any] | None = None
    """Measured again: ``record``, and what the test images say, ``test`` and its ``rulings``."""
    long: bool = False
    """Whether it was measured longer, as a short measurement did not decide."""


def read_outcome(ground: Ground, plan: Plan, number: int) -> Outcome | None:
    """What is kept of a plan; None where it was not tried, or what is kept decides too little.

    Raises:
        UsageError: it is of a newer edgekd.
    """
    table = OUTCOME.found(ground.outcome(plan))
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecipeError):  # made again
        asked = _asked(ground, plan)
        if _completed(table["asked"], asked) != asked:
            return None
        if table["question"] != _question(ground, number):
            return _ruled_again(ground, table, plan, number)
        made = replace(attempt_from(table["attempt"], ground.budget), plan=plan)
        return Outcome(made, table["record"], table["confirmed"], table["long"])
    return None


def keep_outcome(ground: Ground, found: Outcome, number: int) -> None:
    """Write an outcome down; until then, the attempt was not made."""
    plan = found.attempt.plan
    write_json(
        ground.outcome(plan),
        {
            **OUTCOME.head,
            "asked": _asked(ground, plan),
            "question": _question(ground, number),
            "attempt": found.attempt.to_dict(),
            "record": found.record,
            "confirmed": found.confirmed,
            "long": found.long,
        },
    )


def judged(
    ground: Ground, attempt: Attempt, record: Mapping[str, Any], tally: worth.Tally, number: int
) -> Attempt:
    """An attempt with what its first measurement says of each clause.

    Args:
        ground: the mission's.
        attempt: how the file was made.
        record: costs, on the device.
        tally: answers to the validation images there.
        number: which attempt it is, from 1: later ones are judged with wider intervals.
    """
    confidence = worth.confidence_of(number)
    figures = figures_of(record) | worth.figures(tally, confidence)
    rulings = tuple(
        excused(ruling, ground.suspicion) for ruling in rule_all(ground.budget.clauses, figures)
    )
    return replace(
        attempt,
        state=state_of(rulings),
        rulings=rulings,
        validation={**worth.summary(tally, confidence), "attempt": number},
        median=record["timing"]["median"]["value"],
        stability=(condition_of(record),),
    )


def measured_twice(
    ground: Ground, attempt: Attempt, record: Mapping[str, Any]
) -> tuple[Attempt, tuple[Ruling, ...]]:
    """An attempt with what its second measurement says of the costs, which have to hold again.

    Returns:
        The attempt, and those costs that more runs could settle.
    """
    again = rule_all(ground.budget.costs, figures_of(record))
    state: State = "holds" if state_of(again) == "holds" else "fails"
    states = (*attempt.stability[:1], condition_of(record))
    tried = replace(attempt, again=again, state=state, stability=states)
    return tried, tuple(unsettled(again, ground.budget))


def tested(budget: Budget, tally: worth.Tally) -> dict[str, Any]:
    """The final figures of accuracy, on images that decided nothing."""
    rulings = rule_all(budget.worth, worth.figures(tally))
    return {
        "test": worth.summary(tally, confidence=0.95),
        "rulings": [ruling.to_dict() for ruling in rulings],
    }


def unsettled(rulings: Sequence[Ruling], budget: Budget) -> list[Ruling]:
    """The costs that more runs could settle, where none is settled for the worse."""
    costs = [ruling for ruling in rulings if ruling.clause in budget.costs]
    if any(ruling.state == "fails" for ruling in costs):
        return []
    vague = (r for r in costs if r.state == "open" or r.clause.metric in LATENCY)
    return [ruling for ruling in vague if ruling.state != "holds"]


def _ruled_again(
    ground: Ground, table: Mapping[str, Any], plan: Plan, number: int
) -> Outcome | None:
    """What was measured for another question, ruled on for this one."""
    unruled = {**table["attempt"], "rulings": [], "again": None}
    kept, record = replace(attempt_from(unruled, ground.budget), plan=plan), table["record"]
    if kept.refused:
        return Outcome(kept)
    tried = judged(ground, kept, record, worth.tally_of(kept.validation or {}), number)
    if _undecided(tried.rulings, record, ground.budget, table["long"]):
        return None
    found, confirmed = Outcome(tried, record, None, table["long"]), table["confirmed"]
    if tried.state != "holds" or confirmed is None:
        return found
    again, vague = measured_twice(ground, tried, confirmed["record"])
    if vague or not _metered(again.again or (), confirmed["record"]):
        return found  # to be confirmed anew
    if again.state != "holds":
        return replace(found, attempt=again)
    last = tested(ground.budget, worth.tally_of(confirmed["test"]))
    return replace(found, attempt=again, confirmed={"record": confirmed["record"], **last})


def _undecided(
    rulings: Sequence[Ruling], record: Mapping[str, Any], budget: Budget, long: bool
) -> bool:
    """Whether another measurement could decide what this one does not."""
    vague = unsettled(rulings, budget)
    if not _metered(rulings, record) or any(ruling.state == "unknown" for ruling in vague):
        return True
    return not long and (bool(vague) or unsteady(rulings, record))


def _metered(rulings: Sequence[Ruling], record: Mapping[str, Any]) -> bool:
    """Whether a meter was read, where energy is bounded."""
    bounded = any(ruling.clause.metric == "j_per_inf" for ruling in rulings)
    return not bounded or bool(record["policy"]["energy"])


def _question(ground: Ground, number: int) -> dict[str, Any]:
    """What decides how figures are ruled on."""
    return {"budget": str(ground.budget), "number": number}


def _completed(kept: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked, with what it did not say when it was written: later keys of the recipe."""
    recipe = _deciding(recipe_from(kept["recipe"]))
    return {**kept, "recipe": recipe, "policy": {**asked["policy"], **kept["policy"]}}


def _deciding(recipe: Recipe) -> dict[str, Any]:
    return {k: v for k, v in recipe.to_dict().items() if k not in ("teacher", "teach")}


def _asked(ground: Ground, plan: Plan) -> dict[str, Any]:
    """All that decides what is measured, but for how long, and for the machine."""
    profile = ground.task.recipe.profile
    said = {"batch_size": profile.batch_size, "threads": profile.threads}
    asked = {
        "plan": plan.asked,
        "policy": asdict(policy_for(ground.device, {k: v for k, v in said.items() if v})),
        "teacher": ground.teacher.sha256,
        "recipe": _deciding(ground.recipe(plan)),
    }
    found: dict[str, Any] = json.loads(json.dumps(asked))
    return found
