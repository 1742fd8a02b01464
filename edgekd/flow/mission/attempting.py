"""Attempting: one plan carried out, from training to measuring, and its outcome kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgekd.artifact import Artifact
from edgekd.errors import DivergedError, GateError, UsageError
from edgekd.export import check_enough
from edgekd.flow.choosing import method_of
from edgekd.flow.exporting import already_exported, export_network
from edgekd.flow.findings import Found, Proofs
from edgekd.flow.measuring import Truth, observe
from edgekd.flow.mission import worth
from edgekd.flow.mission.ground import Ground
from edgekd.flow.mission.outcomes import Outcome, judged, keep_outcome, read_outcome, unsettled
from edgekd.flow.mission.patience import longer
from edgekd.flow.mission.plans import Attempt, Plan, made_from
from edgekd.flow.mission.steadiness import unsteady
from edgekd.flow.mission.wording import against
from edgekd.flow.policies import policy_for
from edgekd.flow.training import distill, teacher_of
from edgekd.models import build
from edgekd.recipe import Recipe
from edgekd.watching import Silent


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


def ask(
    ground: Ground, path: Path, truth: Truth, said: Mapping[str, Any], *, proofs: Proofs
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
    blank = Attempt(plan, "open", made=made_from(made.manifest["export"]))
    found = _measure(ground, made, ground.said(plan))
    tried = judged(ground, blank, found.record, _tally(ground, found), number)
    doubted = unsettled(tried.rulings, ground.budget)
    if not doubted and not unsteady(tried.rulings, found.record):
        return Outcome(tried, found.record)
    state = found.record["verdict"]["state"]
    words = f"it is not settled: {against(doubted)}" if doubted else f"the device was {state}"
    ground.task.say(f"attempt {number}: measured longer, as {words}")
    found = _measure(ground, made, longer(ground.said(plan, tried.median)))
    tried = judged(ground, blank, found.record, _tally(ground, found), number)
    return Outcome(tried, found.record, long=True)


class _RefusedError(Exception):
    """The student could not be made; that is an outcome, and no error."""


def _train(ground: Ground, plan: Plan) -> Artifact:
    recipe, task = ground.recipe(plan), ground.task
    _check_method(ground, recipe)
    try:
        return distill(recipe, ground.folder(plan) / "student", task, restart=task.restart)
    except (DivergedError, GateError) as error:
        # of its own images the teacher knows enough; at this size it may see too little of them
        raise _RefusedError(f"it could not be trained at {plan.size} px: {error}") from error


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
    found, _ = ask(ground, made.path, truth, said, proofs=Proofs.NONE)
    return found


def _tally(ground: Ground, found: Found) -> worth.Tally:
    assert found.predictions is not None
    targets = ground.splits.validation.targets.tolist()
    return worth.tally(found.predictions, targets, ground.teacher_says)
