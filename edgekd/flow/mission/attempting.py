"""Attempting: one plan carried out, from training to measuring, and its outcome kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from edgekd.artifact import Artifact
from edgekd.budget import LATENCY, Budget, Figure, Ruling, figures_of, rule_all
from edgekd.errors import DivergedError, GateError, UsageError
from edgekd.export import check_enough
from edgekd.files import write_json
from edgekd.flow.choosing import method_of
from edgekd.flow.exporting import already_exported, export_network
from edgekd.flow.findings import Found
from edgekd.flow.measuring import Truth, observe
from edgekd.flow.mission import worth
from edgekd.flow.mission.patience import fields_for, longer
from edgekd.flow.mission.plans import Attempt, Plan, attempt_from, made_from, state_of
from edgekd.flow.mission.steadiness import condition_of, unsteady
from edgekd.flow.mission.teachers import excused, suspicion
from edgekd.flow.mission.wording import against
from edgekd.flow.policies import policy_for
from edgekd.flow.running import Run
from edgekd.flow.training import distill, teacher_of
from edgekd.loading import Splits
from edgekd.models import build
from edgekd.recipe import Export, Network, Recipe
from edgekd.watching import Silent

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Ground:
    """What all attempts of a mission stand on."""

    task: Run
    budget: Budget
    teacher: Artifact
    splits: Splits

    @property
    def device(self) -> str:
        return self.task.recipe.profile.device

    @cached_property
    def said(self) -> dict[str, Any]:
        """Fields of the policy."""
        return fields_for(self.budget, self.task.recipe.profile)

    @cached_property
    def teacher_says(self) -> list[int]:
        """Of the validation images."""
        return worth.teacher_answers(self.teacher, self.splits, self.task.recipe.data)

    @cached_property
    def suspicion(self) -> str:
        """Why nobody should be compared with the teacher; nothing where there is no reason."""
        return suspicion(self.teacher)

    def recipe(self, plan: Plan) -> Recipe:
        """The recipe of a plan's student."""
        recipe = self.task.recipe
        return replace(
            recipe,
            data=replace(recipe.data, size=plan.size),
            teacher=Network("", str(self.teacher.path)),
            student=Network(plan.network, ""),
            train=replace(recipe.train, epochs=plan.epochs),
            export=self.export(plan),
        )

    def export(self, plan: Plan) -> Export:
        """How a plan's student is exported."""
        drop = plan.max_drop
        return replace(self.task.recipe.export, precision=plan.precision, max_drop=drop)

    def folder(self, plan: Plan) -> Path:
        """Of a plan's student."""
        return self.task.out / plan.key

    def exported(self, plan: Plan) -> Path:
        """Of a plan's file."""
        return self.folder(plan) / f"onnx-{plan.precision}"

    def outcome(self, plan: Plan) -> Path:
        """The file that is written when an attempt is over."""
        return self.folder(plan) / f"outcome-{plan.precision}.json"


@dataclass(frozen=True)
class Outcome:
    """An attempt, the records behind it, and what the test images said if it was confirmed."""

    attempt: Attempt
    record: Mapping[str, Any] | None = None
    confirmed: Mapping[str, Any] | None = None
    """Measured again: ``record``, and what the test images say, ``test`` and its ``rulings``."""


def attempt(ground: Ground, plan: Plan, number: int) -> Outcome:
    """Carry a plan out, or read what came of it.

    Args:
        ground: the mission's.
        plan: what to try.
        number: which attempt it is, from 1.

    Raises:
        EdgeKDError: what is no fault of the student's: the device is gone, the disk is full.
    """
    kept = None if ground.task.restart else read_outcome(ground, plan, number)
    if kept is not None:
        ground.task.progress("attempt", 1, 1, f"already tried, in {ground.outcome(plan).parent}")
        return kept
    found = _carry_out(ground, plan, number)
    keep_outcome(ground, found, number)
    return found


def read_outcome(ground: Ground, plan: Plan, number: int) -> Outcome | None:
    """What is kept of this very attempt under this very budget; else None."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged one is made again
        table = json.loads(ground.outcome(plan).read_text("utf-8"))
        if table["asked"] == _asked(ground, plan, number):
            made = attempt_from(table["attempt"], ground.budget)
            return Outcome(replace(made, plan=plan), table["record"], table["confirmed"])
    return None


def keep_outcome(ground: Ground, found: Outcome, number: int) -> None:
    """Write an outcome down; until then, the attempt was not made."""
    plan = found.attempt.plan
    write_json(
        ground.outcome(plan),
        {
            "schema_version": SCHEMA_VERSION,
            "asked": _asked(ground, plan, number),
            "attempt": found.attempt.to_dict(),
            "record": found.record,
            "confirmed": found.confirmed,
        },
    )


def ask(
    ground: Ground, path: Path, truth: Truth, said: Mapping[str, Any], *, proofs: bool
) -> tuple[Found, list[dict[str, Any]]]:
    """Measure one file on the device, in a fresh process there.

    Returns:
        What was found, and the rows of raw runs.
    """
    policy = policy_for(ground.device, said)
    (seat,) = observe([path], policy, ground.device, truth, ground.task, proofs=proofs)
    (found,) = seat.found
    return found, seat.samples


def _carry_out(ground: Ground, plan: Plan, number: int) -> Outcome:
    try:
        student = _train(ground, plan)
        made = _export(ground, plan, student)
    except _RefusedError as refusal:
        return Outcome(Attempt(plan, "refused", refused=str(refusal)))
    found = _measure(ground, made, ground.said)
    rulings, summary = _rule(ground, found, number)
    doubted = unsettled(rulings, ground.budget)
    if doubted or unsteady(rulings, found.record):
        state = found.record["verdict"]["state"]
        words = f"it is not settled: {against(doubted)}" if doubted else f"the device was {state}"
        ground.task.say(f"attempt {number}: measured longer, as {words}")
        found = _measure(ground, made, longer(ground.said))
        rulings, summary = _rule(ground, found, number)
    tried = Attempt(
        plan,
        state_of(rulings),
        rulings,
        made=made_from(made.manifest["export"]),
        validation={**summary, "attempt": number},
        median=found.record["timing"]["median"]["value"],
        stability=(condition_of(found.record),),
    )
    return Outcome(tried, found.record)


class _RefusedError(Exception):
    """The student could not be made; that is an outcome, and no error."""


def _train(ground: Ground, plan: Plan) -> Artifact:
    recipe, task = ground.recipe(plan), ground.task
    _check_method(ground, recipe)
    try:
        return distill(recipe, ground.folder(plan) / "student", task, restart=task.restart)
    except (DivergedError, GateError) as error:
        raise _RefusedError(f"it could not be trained: {error}") from error


def _check_method(ground: Ground, recipe: Recipe) -> None:
    """The method was tried on no student of this mission yet; one it does not suit is refused."""
    targets = torch.from_numpy(ground.splits.train.targets)
    student = build(recipe.student, ground.splits.labels, recipe.data.size, new_head=True)
    teacher = teacher_of(recipe, ground.splits.labels)
    try:
        method_of(recipe.method, student, teacher, None, targets, Silent())
    except UsageError as error:
        raise _RefusedError(f"the method does not suit it: {error}") from error


def _export(ground: Ground, plan: Plan, student: Artifact) -> Artifact:
    options, out, task = ground.export(plan), ground.exported(plan), ground.task
    done = None if task.restart else already_exported(student, out, options, ground.device)
    if done is not None:
        task.progress("export", 1, 1, f"already exported, in {out}")
        return done
    try:
        if options.precision in ("fp16", "int8"):
            images = min(len(ground.splits.validation), max(options.judged, options.samples))
            check_enough(images, options.max_drop)
    except UsageError as error:
        raise _RefusedError(str(error)) from error
    try:
        return export_network(student, out, options, None, task, device=ground.device)
    except GateError as error:
        raise _RefusedError(error.bare) from error


def _measure(ground: Ground, made: Artifact, said: Mapping[str, Any]) -> Found:
    """With the validation images; no proof is kept of what chooses."""
    truth = Truth(ground.task.recipe.data, ground.teacher_says, "validation")
    found, _ = ask(ground, made.path, truth, said, proofs=False)
    return found


def _rule(ground: Ground, found: Found, number: int) -> tuple[tuple[Ruling, ...], dict[str, Any]]:
    assert found.predictions is not None
    said, confidence = list(found.predictions), worth.confidence_of(number)
    seen = (said, ground.splits.validation.targets.tolist(), ground.teacher_says, confidence)
    figures: dict[str, Figure] = figures_of(found.record) | worth.figures(*seen)
    ruled = rule_all(ground.budget.clauses, figures)
    return tuple(excused(each, ground.suspicion) for each in ruled), worth.summary(*seen)


def unsettled(rulings: Sequence[Ruling], budget: Budget) -> list[Ruling]:
    """The costs that more runs could settle, where none is settled for the worse."""
    costs = [ruling for ruling in rulings if ruling.clause in budget.costs]
    if any(ruling.state == "fails" for ruling in costs):
        return []
    vague = (r for r in costs if r.state == "open" or r.clause.metric in LATENCY)
    return [ruling for ruling in vague if ruling.state != "holds"]


def _asked(ground: Ground, plan: Plan, number: int) -> dict[str, Any]:
    """All that decides an outcome, but for the machine."""
    recipe = ground.recipe(plan).to_dict()
    asked = {
        "plan": plan.asked,
        "number": number,
        "budget": str(ground.budget),
        "policy": asdict(policy_for(ground.device, ground.said)),
        "teacher": ground.teacher.sha256,
        "recipe": {k: v for k, v in recipe.items() if k not in ("teacher", "teach")},
    }
    found: dict[str, Any] = json.loads(json.dumps(asked))
    return found
