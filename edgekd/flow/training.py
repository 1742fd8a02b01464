"""Train a network as a recipe says, and leave an artifact."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from edgekd import artifact
from edgekd.artifact import Artifact
from edgekd.errors import UsageError
from edgekd.files import writing
from edgekd.flow import gates
from edgekd.flow.keeping import Origin, keep
from edgekd.loading import Loaders, Splits, eval_loader, loaders, open_splits
from edgekd.methods import Method
from edgekd.models import Backbone, build
from edgekd.models.reframe import Reframe
from edgekd.models.zoo import HUB
from edgekd.recipe import Network, Recipe, Train
from edgekd.trainer import Scores, Task, Trainer, checkpoint, evaluate
from edgekd.watching import Silent, Watch

CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Job:
    """One network to train and to leave as an artifact."""

    role: str
    network: Network
    train: Train
    method: Method
    recipe: Recipe
    out: Path
    watch: Watch
    restart: bool


def teach(
    recipe: Recipe, out: Path, watch: Watch | None = None, *, restart: bool = False
) -> Artifact:
    """Train or fine-tune ``recipe.teacher`` on the labels, as ``recipe.teach`` says."""
    method = Method.parse("ce")
    job = _Job(
        "teacher", recipe.teacher, recipe.teach, method, recipe, out, watch or Silent(), restart
    )
    return _train(job, None, open_splits(recipe.data))


def distill(
    recipe: Recipe,
    out: Path,
    watch: Watch | None = None,
    *,
    teacher: Backbone | None = None,
    restart: bool = False,
) -> Artifact:
    """Distil ``recipe.student`` from the teacher.

    Args:
        recipe: everything that decides the result.
        out: the artifact's folder; the state of an unfinished training is kept in it and gone on
            with.
        watch: told how far it is.
        teacher: a network of your own, in place of ``recipe.teacher``.
        restart: throw an unfinished or another training in ``out`` away.

    Raises:
        GateError: the teacher is near chance.
        UsageError: see the classes of :mod:`edgekd.errors` below it.
    """
    method = Method.from_table(recipe.method)
    job = _Job(
        "student", recipe.student, recipe.train, method, recipe, out, watch or Silent(), restart
    )
    splits = open_splits(recipe.data)
    return _train(job, teacher or teacher_of(recipe, splits.labels), splits)


def teacher_of(recipe: Recipe, labels: Sequence[str]) -> Backbone:
    """The recipe's teacher, with its weights.

    Raises:
        UsageError: it has none.
    """
    name, weights = recipe.teacher.name, recipe.teacher.weights
    if not weights and not name.startswith(HUB):
        raise UsageError(
            f"the teacher {name} has no weights. Give them with --teacher {name}:WEIGHTS (a "
            "folder, a file, or 'pretrained'), or train it first: edgekd teach."
        )
    return build(recipe.teacher, labels)


def train_alone(
    recipe: Recipe,
    out: Path,
    epochs: int,
    watch: Watch | None = None,
    *,
    restart: bool = False,
) -> Artifact:
    """Train ``recipe.student`` without a teacher for ``epochs``: the baseline of a gain.

    It keeps those terms of the method that do not look at a teacher, at full weight.
    """
    names = [n for n, t in Method.from_table(recipe.method).terms.items() if not t.uses_teacher]
    table = {name: {**recipe.method[name], "weight": 1.0} for name in names} or {"ce": {}}
    train = replace(recipe.train, epochs=epochs)
    method = Method.from_table(table)
    job = _Job("baseline", recipe.student, train, method, recipe, out, watch or Silent(), restart)
    return _train(job, None, open_splits(recipe.data))


def _train(job: _Job, teacher: Backbone | None, splits: Splits) -> Artifact:
    for note in splits.notes:
        job.watch.say(note)
    fingerprint = _fingerprint(job, teacher, splits)
    finished = _already(job, fingerprint)
    if finished is not None:
        return finished
    torch.manual_seed(job.train.seed)
    student = build(job.network, splits.labels, job.recipe.data.size, new_head=True)
    if teacher is not None:
        gates.check_sizes(teacher, student)
    loaded = _load(job, splits, student)
    if teacher is not None:
        teacher_scores = _judge(teacher, student, loaded)
        gates.check_teacher(teacher, teacher_scores)
        job.watch.say(f"teacher {teacher.name}: {teacher_scores.top1:.1%} on validation images")
    with writing(job.out):
        (job.out / "training").mkdir(parents=True, exist_ok=True)
    task = Task(student, teacher, job.method, loaded, job.train, job.out / "training", fingerprint)
    trained = Trainer(task, _teller(job)).run()
    test = evaluate(trained.model, loaded.test, CPU)
    job.watch.say(f"{job.role} {student.name}: {test.top1:.1%} on {test.n} test images")
    origin = Origin(job.role, job.recipe, fingerprint, str(job.method), teacher, trained.facts)
    made = keep(replace(student, model=trained.model), job.out, origin, trained.validation, test)
    for name in (checkpoint.NAME, "student.safetensors"):
        (job.out / "training" / name).unlink(missing_ok=True)
    return made


def adopt(recipe: Recipe, out: Path, watch: Watch) -> Artifact:
    """Keep a teacher that came with weights as an artifact, judged on this data's images."""
    splits = open_splits(recipe.data)
    teacher = build(recipe.teacher, splits.labels)
    job = _Job(
        "teacher", recipe.teacher, recipe.teach, Method.parse("ce"), recipe, out, watch, False
    )
    fingerprint = _fingerprint(job, None, splits)
    finished = _already(job, fingerprint)
    if finished is not None:
        return finished
    validation, test = (
        evaluate(teacher.model, eval_loader(split, teacher.preprocess, recipe.data), CPU)
        for split in (splits.validation, splits.test)
    )
    gates.check_teacher(teacher, validation)
    return keep(teacher, out, Origin("teacher", recipe, fingerprint), validation, test)


def _already(job: _Job, fingerprint: str) -> Artifact | None:
    """The finished artifact of this very training, if it is there."""
    state = job.out / "training"
    if job.restart:
        for file in [job.out / artifact.MANIFEST, *state.glob("*")]:
            file.unlink()
    if not artifact.is_artifact(job.out):
        return None
    found = Artifact.open(job.out)
    if found.manifest.get("fingerprint") != fingerprint:
        raise UsageError(
            f"{job.out} holds a finished {found.manifest['role']} of another recipe or other data. "
            "Choose another --output, or start again with --restart."
        )
    job.watch.say(f"{job.role}: already trained, in {job.out.name}")
    return found


def _load(job: _Job, splits: Splits, student: Backbone) -> Loaders:
    total = len(splits.train) + len(splits.validation) + len(splits.test)
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if done % 500 == 0 or done == total:
            job.watch.progress("decode", done, total, "images")

    return loaders(splits, student.preprocess, job.recipe.data, job.train, tick=tick)


def _judge(teacher: Backbone, student: Backbone, loaded: Loaders) -> Scores:
    """The teacher's accuracy on what it will be shown: the student's batches, reframed."""
    shown = torch.nn.Sequential(Reframe(student.preprocess, teacher.preprocess), teacher.model)
    return evaluate(shown, loaded.validation, CPU)


def _teller(job: _Job) -> Callable[[int, int, str], None]:
    words = {"teacher": "teach", "student": "distill", "baseline": "baseline"}
    return lambda done, total, note: job.watch.progress(words[job.role], done, total, note)


def _fingerprint(job: _Job, teacher: Backbone | None, splits: Splits) -> str:
    """Hash of all that decides the weights."""
    targets = [split.targets.tolist() for split in (splits.train, splits.validation)]
    content: dict[str, Any] = {
        "role": job.role,
        "data": asdict(job.recipe.data),
        "network": asdict(job.network),
        "train": asdict(job.train),
        "method": {k: dict(v) for k, v in job.recipe.method.items()}
        if teacher
        else str(job.method),
        "teacher": (teacher.name, teacher.parent) if teacher else None,
        "labels": splits.labels,
        "targets": targets,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
