"""Accomplish a mission: scout, teach, try what the ladder says, confirm, and leave the proof."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from edgekd import report
from edgekd.artifact import Artifact
from edgekd.budget import Budget
from edgekd.claims import claim
from edgekd.files import sweep, write_json, write_text
from edgekd.flow.baseline import compare_alone
from edgekd.flow.mission.attempting import attempt
from edgekd.flow.mission.confirming import confirm, measure_teacher, publish
from edgekd.flow.mission.ground import Ground
from edgekd.flow.mission.ladder import SPARE, next_plan
from edgekd.flow.mission.outcomes import Outcome
from edgekd.flow.mission.overview import figures_told, left_out, outcome_told, overview
from edgekd.flow.mission.owning import (
    ASKED,
    PUBLISHED,
    TEACHER_PROFILE,
    Opening,
    check_place,
    summary_in,
    withdraw,
)
from edgekd.flow.mission.plans import Decision, Limits, Plan
from edgekd.flow.mission.scouted import Student, allowed, students_of
from edgekd.flow.mission.steadiness import brief
from edgekd.flow.mission.teachers import check_knowing, check_same, taught_on_others
from edgekd.flow.mission.verdict import Ending
from edgekd.flow.mission.worth import check_shown, images_needed
from edgekd.flow.preflight import RECIPE, SUMMARY, check_stages
from edgekd.flow.running import Run, teacher_for
from edgekd.flow.scouts import RANKING, Scouting, scout
from edgekd.flow.targeting import target_of
from edgekd.loading import Splits
from edgekd.models import Backbone, build
from edgekd.schema import RUN, SCOUT


@dataclass(frozen=True)
class Mission:
    """What to find, where to look for it, and how long."""

    task: Run
    budget: Budget
    space: tuple[str, ...] = ()
    """Names of spaces and networks; empty: as the scout takes them for images of that size."""
    sizes: tuple[int, ...] = ()
    attempts: int = 6
    margin: float = 0.1


def accomplish(mission: Mission) -> dict[str, Any]:
    """Do every stage that is not done yet, and write the report.

    Returns:
        The summary, as ``run.json`` holds it with its section ``budget``, and the report's paths.

    Raises:
        UsageError: what cannot work, before anything is done.
        GateError: the teacher is near chance.
        DeviceError: the device is out of reach; the same command goes on from there.
    """
    with claim(mission.task.out, "run"):
        return _accomplish(mission, *_checked(mission))


def _accomplish(mission: Mission, splits: Splits, teacher: Backbone) -> dict[str, Any]:
    task, budget = mission.task, mission.budget
    sweep(task.out)
    begin = _recall(mission)
    too_few = check_shown(budget, len(splits.validation), mission.attempts)
    for line in (too_few, taught_on_others(task.recipe)):
        if line:
            task.decisions += [line] * (line not in task.decisions)  # written with what comes next
            task.watch.say(line)
    asked = _scouting(mission, splits, teacher)
    found = task.timed("scout", lambda: _scout(task, asked, begin), task.out / RANKING)
    begin()
    limits = Limits(
        mission.attempts,
        mission.margin,
        task.recipe.train.epochs,
        task.recipe.export.precision,
        task.recipe.export.max_drop,
        (teacher.parameters, teacher.macs()),
    )
    students = students_of(found)
    for line in (left_out(students, limits), overview(found, students, budget, limits)):
        if line:
            task.say(line)
    ending, ground = _climb(mission, allowed(students, limits), limits, splits)
    gain = None
    if ground is not None and ending.state == "holds":
        gain = _proved(ground, ending)
    else:
        withdraw(task)
    return _summed(task, ending, gain)


def _checked(mission: Mission) -> tuple[Splits, Backbone]:
    """Refuse what only the last stages would have refused."""
    task, recipe = mission.task, mission.task.recipe
    splits = check_stages(recipe, task.out)
    check_place(task.out)
    if not task.restart:
        check_same(recipe, splits, task.out / "teacher")
    size = 0 if recipe.teacher.weights else recipe.data.size
    return splits, build(recipe.teacher, splits.labels, size)


def _recall(mission: Mission) -> Callable[[], None]:
    """What the last run in this folder said, where it was asked the same.

    Returns:
        What to do before anything is written: take back what was accepted for another question.
    """
    task, question = mission.task, _question(mission)
    task.recall()
    before = summary_in(task.out)
    task.earlier.pop("budget", None)
    other = before.get(ASKED) != question or task.restart
    if other:
        task.decisions = []
    task.earlier |= {ASKED: question, PUBLISHED: before.get(PUBLISHED)}
    return partial(withdraw, task) if other else _nothing


def _nothing() -> None:
    """All that lies there may stay."""


def _question(mission: Mission) -> str:
    """A hash of all that was asked, wherever the folder is."""
    asked = {
        "budget": str(mission.budget),
        "space": mission.space,
        "sizes": mission.sizes,
        "attempts": mission.attempts,
        "margin": mission.margin,
        "baseline": mission.task.baseline,
        "recipe": mission.task.recipe.to_dict(),
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _scouting(mission: Mission, splits: Splits, teacher: Backbone) -> Scouting:
    recipe, budget = mission.task.recipe, mission.budget
    size = recipe.data.size or teacher.preprocess.size[0]
    said: dict[str, Any] = {"batch_size": recipe.profile.batch_size}
    if recipe.profile.threads:
        said["threads"] = recipe.profile.threads
    return Scouting(
        device=recipe.profile.device,
        budget=budget,
        space=mission.space,
        sizes=mission.sizes,
        size=size,
        classes=len(splits.labels),
        precisions=precisions_of(mission, len(splits.validation)),
        said=said,
        margin=mission.margin,
        restart=mission.task.restart,
    )


def precisions_of(mission: Mission, images: int) -> tuple[str, ...]:
    """What the scout times: int8 only where it could be accepted at all.

    A bound on ``top1`` leaves to lose what nobody knows before a training, and allows as much as
    none at all; a bound on ``top1_drop`` says it.
    """
    export = mission.task.recipe.export
    if export.precision != "auto":
        return (export.precision,)
    target = target_of(mission.task.recipe.profile.device)
    drops = [c.bound for c in mission.budget.worth if c.metric == "top1_drop"]
    most = max([export.max_drop, *(drops or [SPARE])])
    judged = min(images, max(export.judged, export.samples))
    enough = not images_needed(most, judged)
    return ("fp32", "int8") if "int8" in target.precisions and enough else ("fp32",)


def _scout(task: Run, asked: Scouting, begin: Callable[[], None]) -> Mapping[str, Any]:
    """Ask the scout, unless it answered this very question in this folder."""
    file, known = task.out / RANKING, {**asdict(asked), "budget": str(asked.budget)}
    question: dict[str, Any] = json.loads(json.dumps(known | {"restart": False}))
    if not task.restart:
        kept = SCOUT.found(file)
        if kept.get("asked") == question:
            task.progress("scout", 1, 1, f"already scouted, in {file}")
            return kept
    found = {**scout(asked, None, Opening(task, begin)), "asked": question}
    write_json(file, found)
    return found


def _climb(
    mission: Mission, students: list[Student], limits: Limits, splits: Splits
) -> tuple[Ending, Ground | None]:
    """Try what the ladder says until the budget holds or nothing is left."""
    task, budget = mission.task, mission.budget
    outcomes: list[Outcome] = []
    ground: Ground | None = None
    device = task.recipe.profile.device
    while True:
        decision = next_plan(students, budget, [o.attempt for o in outcomes], limits)
        if decision.plan is None:
            if outcomes:
                task.say(f"nothing more is tried: {decision.why}.")
            doubts = ground.suspicion if ground else ""
            return Ending(budget, device, outcomes, students, decision, doubts), ground
        if ground is None:
            ground = _stand(mission, splits, students)
        number = len(outcomes) + 1
        task.say(f"attempt {number}: {decision.why}.")
        outcomes.append(_tried(ground, outcomes, decision.plan))
        if outcomes[-1].confirmed is not None:
            done = Decision(None, "")
            return Ending(budget, device, outcomes, students, done, ground.suspicion), ground


def _stand(mission: Mission, splits: Splits, students: list[Student]) -> Ground:
    """Teach or adopt the teacher, and judge it; only once there is a student that could do."""
    task = mission.task
    teacher = task.timed("teach", lambda: teacher_for(task), task.out / "teacher")
    write_text(task.out / RECIPE, task.recipe.to_toml())
    little = check_knowing(teacher, splits)
    if little:
        task.say(f"{little}.")
    ground = Ground(task, mission.budget, teacher, splits, students)
    if ground.suspicion and any(c.metric == "top1_drop" for c in mission.budget.worth):
        task.say(f"{ground.suspicion}.")
    return ground


def _tried(ground: Ground, before: list[Outcome], plan: Plan) -> Outcome:
    number, task = len(before) + 1, ground.task
    found = task.timed(
        f"attempt {number}", lambda: attempt(ground, plan, number), ground.outcome(plan)
    )
    task.say(f"attempt {number}: {outcome_told(found.attempt)}")
    if found.attempt.state != "holds" and found.attempt.again is None:
        return found
    found = task.timed(
        f"confirm {number}", lambda: confirm(ground, found, number), ground.outcome(plan)
    )
    if found.attempt.again:
        word = "measured again" if found.confirmed else "not repeatable"
        states = brief([c.state for c in found.attempt.stability[1:]])
        task.say(f"attempt {number}: {word}: {figures_told(found.attempt.again)}{states}.")
    return found


def _proved(ground: Ground, ending: Ending) -> dict[str, Any] | None:
    """The baseline, the copy for whoever deploys it, and the teacher to be compared with."""
    accepted, task = ending.accepted, ground.task
    assert accepted is not None
    plan, gain = accepted.attempt.plan, None
    if task.baseline != "none":
        student = Artifact.open(ground.folder(plan) / "student")
        out = ground.folder(plan) / "baseline"
        recipe = ground.recipe(plan)
        _, gain = task.timed(
            "baseline",
            lambda: compare_alone(recipe, student, out, task.baseline, task, restart=task.restart),
            out,
        )
    publish(ground, accepted)
    task.timed("teacher", lambda: measure_teacher(ground), task.out / TEACHER_PROFILE)
    return gain


def _summed(task: Run, ending: Ending, gain: dict[str, Any] | None) -> dict[str, Any]:
    section = ending.to_dict()
    task.say(f"{section['sentence']}.")
    summary = {
        **RUN.head,
        "command": task.command,
        "gain": gain,
        "decisions": task.decisions,
        "seconds": task.seconds,
        "measured": None,
        "budget": section,
        ASKED: task.earlier[ASKED],
        PUBLISHED: task.earlier.get(PUBLISHED),
    }
    write_json(task.out / SUMMARY, summary)
    paths = report.write(task.out)
    return summary | {"report": {kind: str(path) for kind, path in paths.items()}}
