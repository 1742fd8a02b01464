"""Confirming: what was accepted is measured once more, and meets the test images for the end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekd.artifact import Artifact
from edgekd.errors import ArtifactError, GateError
from edgekd.files import aside, write_json, write_text
from edgekd.flow.baseline import answers
from edgekd.flow.exporting import already_exported, export_network
from edgekd.flow.findings import Proofs
from edgekd.flow.measuring import Truth, measure
from edgekd.flow.mission import worth
from edgekd.flow.mission.attempting import ask
from edgekd.flow.mission.ground import Ground
from edgekd.flow.mission.outcomes import Outcome, keep_outcome, measured_twice, tested
from edgekd.flow.mission.owning import ARTIFACT, PUBLISHED, SAMPLES, TEACHER_PROFILE
from edgekd.flow.mission.patience import longer
from edgekd.flow.mission.steadiness import unsteady
from edgekd.flow.policies import policy_for
from edgekd.flow.running import PROFILE


def confirm(ground: Ground, found: Outcome, number: int) -> Outcome:
    """Measure an accepted file again, in a fresh process and with the test images.

    Its costs have to hold again; if they do not, the attempt fails, and what the test images said
    is not told: nothing is chosen by them. Where both hold and yet contradict each other, the worse
    one is what is told in the end (:mod:`edgekd.flow.mission.steadiness`).
    """
    if found.confirmed is not None or found.attempt.again is not None:
        return found
    plan = found.attempt.plan
    ground.task.progress("confirm", 0, 1, plan.key)
    student = Artifact.open(ground.folder(plan) / "student")
    truth = Truth(ground.task.recipe.data, answers(student)["predictions"])
    said = ground.said(plan, found.attempt.median)
    seen, samples = ask(ground, ground.exported(plan), truth, said, proofs=Proofs.REQUIRED)
    tried, vague = measured_twice(ground, found.attempt, seen.record)
    if vague or unsteady(tried.again or (), seen.record):
        ground.task.say(f"attempt {number}: not settled by the second measurement; measured longer")
        seen, samples = ask(
            ground, ground.exported(plan), truth, longer(said), proofs=Proofs.REQUIRED
        )
        tried, _ = measured_twice(ground, found.attempt, seen.record)
    confirmed = None
    if tried.state == "holds":
        assert seen.predictions is not None
        last = tested(ground.budget, _tally(ground, seen.predictions))
        confirmed = {"record": seen.record, **last}
        rows = "".join(f"{json.dumps(row)}\n" for row in samples)
        write_text(ground.folder(plan) / SAMPLES, rows)
    done = replace(found, attempt=tried, confirmed=confirmed)
    keep_outcome(ground, done, number)
    ground.task.progress("confirm", 1, 1, plan.key)
    return done


def publish(ground: Ground, found: Outcome) -> None:
    """Leave the measurement, and an exact copy of the file with its proof, in the run's folder."""
    assert found.confirmed is not None
    out, plan = ground.task.out, found.attempt.plan
    samples = ground.folder(plan) / SAMPLES
    if samples.is_file():
        write_text(out / SAMPLES, samples.read_text("utf-8"))
    write_json(out / PROFILE, [found.confirmed["record"]])
    made = Artifact.open(ground.exported(plan))
    ground.task.earlier[PUBLISHED] = made.sha256  # said before it is done: it is ours from now on
    ground.task.note()
    if _same(out / ARTIFACT, made):
        return
    with aside(out / ARTIFACT) as draft:
        shutil.copytree(made.path, draft)


def measure_teacher(ground: Ground) -> None:
    """How fast the teacher is there: the picture shows it, no ruling needs it."""
    task, recipe = ground.task, ground.task.recipe
    options = replace(recipe.export, precision="fp32")
    out, file = task.out / "teacher-onnx", task.out / TEACHER_PROFILE
    done = None if task.restart else already_exported(ground.teacher, out, options, ground.device)
    if done is not None and file.is_file():
        task.progress("teacher", 1, 1, f"already measured, in {file}")
        return
    try:
        done = done or export_network(
            ground.teacher, out, options, recipe.data, task, device=ground.device
        )
    except GateError as error:  # the student is proved all the same
        task.say(f"the teacher is not measured: {error}")
        return
    said = {"batch_size": recipe.profile.batch_size, "max_seconds": recipe.profile.max_seconds}
    if recipe.profile.threads:
        said["threads"] = recipe.profile.threads
    measure(
        [done.path],
        policy_for(ground.device, said),
        ground.device,
        None,
        file,
        task,
        proofs=Proofs.REQUIRED,
    )


def _tally(ground: Ground, said: Sequence[int]) -> worth.Tally:
    targets = ground.splits.test.targets.tolist()
    return worth.tally(said, targets, answers(ground.teacher)["predictions"])


def _same(place: Path, made: Artifact) -> bool:
    """Whether the copy is there already, with all that lies beside the files."""
    try:
        there = Artifact.open(place)
    except ArtifactError:
        return False
    files = [f.relative_to(made.path) for f in made.path.rglob("*") if f.is_file()]
    return there.sha256 == made.sha256 and all(
        (place / name).is_file() and (place / name).read_bytes() == (made.path / name).read_bytes()
        for name in files
    )
