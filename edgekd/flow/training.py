"""Train a network as a recipe says, and leave an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from edgekd.artifact import Artifact
from edgekd.data import Loader
from edgekd.errors import UsageError
from edgekd.files import writing
from edgekd.flow import gates
from edgekd.flow.choosing import check_peer, is_auto, method_of
from edgekd.flow.identity import teachings
from edgekd.flow.job import PEER, Job
from edgekd.flow.keeping import Origin, keep
from edgekd.loading import Loaders, Splits, eval_loader, loaders, open_splits
from edgekd.methods import Method
from edgekd.models import Backbone, build
from edgekd.models.licences import merged
from edgekd.models.reframe import Reframe
from edgekd.models.zoo import HUB
from edgekd.preprocess import Preprocess
from edgekd.recipe import Network, Recipe
from edgekd.trainer import Library, Scores, Task, Trained, Trainer, evaluate
from edgekd.watching import Silent, Watch

LABELS: Mapping[str, Any] = {"ce": {"weight": 1.0}}
"""The method of who learns from the labels alone."""


def teach(
    recipe: Recipe, out: Path, watch: Watch | None = None, *, restart: bool = False
) -> Artifact:
    """Train or fine-tune ``recipe.teacher`` on the labels, as ``recipe.teach`` says."""
    job = Job(
        "teacher", recipe.teacher, recipe.teach, LABELS, recipe, out, watch or Silent(), restart
    )
    return carry_out(job, None, open_splits(recipe.data))


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
    method, watch = recipe.method, watch or Silent()
    job = Job("student", recipe.student, recipe.train, method, recipe, out, watch, restart)
    has_peer = check_peer(recipe, teacher)
    splits = open_splits(recipe.data)
    if teacher is None and not has_peer:
        teacher = teacher_of(recipe, splits.labels)
    return carry_out(job, teacher, splits)


def teacher_of(recipe: Recipe, labels: Sequence[str]) -> Backbone:
    """The recipe's teacher, with its weights.

    Raises:
        UsageError: it has none.
    """
    name = recipe.teacher.name
    if not comes_trained(recipe.teacher):
        raise UsageError(
            f"the teacher {name} has no weights. Give them with --teacher {name}:WEIGHTS (a "
            "folder, a file, or 'pretrained'), or train it first: edgekd teach."
        )
    return build(recipe.teacher, labels)


def comes_trained(network: Network) -> bool:
    """Whether a recipe says where the weights are."""
    return bool(network.weights) or network.name.startswith(HUB)


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
    asked = LABELS if is_auto(recipe.method) else recipe.method
    names = [n for n, t in Method.from_table(asked).named.items() if not t.uses_teacher]
    table = {name: {**asked[name], "weight": 1.0} for name in names} or LABELS
    train = replace(recipe.train, epochs=epochs)
    job = Job("baseline", recipe.student, train, table, recipe, out, watch or Silent(), restart)
    return carry_out(job, None, open_splits(recipe.data))


def carry_out(job: Job, teacher: Backbone | None, splits: Splits) -> Artifact:
    """Train one network, or take what its folder holds of this very training.

    Raises:
        GateError: the teacher is near chance, or the network answers with infinities.
        UsageError: the folder holds another training.
    """
    for note in splits.notes:
        job.watch.say(note)
    known = job.fingerprint(teacher, splits)
    finished = job.finished(known)
    if finished is not None:
        return finished
    lesson = prepare(job, teacher, splits, known)
    return conclude(lesson, Trainer(lesson.task, job.tell, job.watch.say).run())


@dataclass(frozen=True)
class Lesson:
    """A training that is ready to begin."""

    job: Job
    task: Task
    taught: Scores | None
    """The teacher's answers to the validation images."""
    shown: Mapping[str, Any]
    """How many training images there are, and how they are augmented."""


def prepare(
    job: Job,
    teacher: Backbone | None,
    splits: Splits,
    known: str,
    beside: Lesson | None = None,
) -> Lesson:
    """Build the networks, check and load all that a training needs.

    Args:
        job: what to train.
        teacher: its teacher, if it has one.
        splits: the images.
        known: the job's fingerprint.
        beside: another student of this teacher, with the same images and seed; it is not
            loaded again what that one loaded, nor is the teacher judged again.

    Raises:
        GateError: the teacher is near chance.
    """
    torch.manual_seed(job.train.seed)
    student = job.start or build(job.network, splits.labels, job.recipe.data.size, new_head=True)
    peer = _peer_of(job, splits)
    if peer is not None:  # each learns from the other
        origins = merged(student.licences, peer.licences)
        student, peer = replace(student, licences=origins), replace(peer, licences=origins)
    if teacher is not None:
        gates.check_sizes(teacher, student)
    targets = torch.from_numpy(splits.train.targets)
    method = method_of(job.table, student, teacher, peer, targets, job.watch)
    loaded = _load(job, splits, student) if beside is None else beside.task.loaders
    taught = None if beside is None else beside.taught
    library = None
    if teacher is not None:
        if taught is None:
            taught = _judge(teacher, student.preprocess, loaded.validation)
            gates.check_teacher(teacher, taught)
            job.watch.say(f"teacher {teacher.name}: {taught.top1:.1%} on validation images")
        shown = teacher, student, job.train, job.recipe.data, loaded.train
        library = Library.of_user(partial(teachings, *shown))
    state = job.out / "training"
    with writing(job.out):
        if job.restart:
            job.clear()
        state.mkdir(parents=True, exist_ok=True)
    task = Task(student, teacher, method, loaded, job.train, state, known, library, peer)
    return Lesson(job, task, taught, {"images": len(splits.train), "augment": splits.augment})


def conclude(lesson: Lesson, trained: Trained) -> Artifact:
    """Judge what a training left on the test images, and keep it.

    Raises:
        GateError: the network answers with infinities.
    """
    job, task = lesson.job, lesson.task
    student, peer, loaded = task.student, task.peer, task.loaders
    facts = {**trained.facts, **lesson.shown, **job.facts}
    made_by = str(task.method), task.teacher, facts, lesson.taught
    origin = Origin(job.role, job.recipe, task.fingerprint, *made_by)
    if peer is not None and trained.peer is not None:
        _keep_peer(replace(peer, model=trained.peer), student.preprocess, job, origin, loaded)
    made = _keep(replace(student, model=trained.model), job, origin, trained.validation, loaded)
    job.close()
    return made


def _peer_of(job: Job, splits: Splits) -> Backbone | None:
    """The network that learns beside the student."""
    if not (job.peer.name or job.peer.weights):
        return None
    return build(job.peer, splits.labels, job.recipe.data.size, new_head=True)


def _keep(
    student: Backbone, job: Job, origin: Origin, validation: Scores, loaded: Loaders
) -> Artifact:
    test = evaluate(student.model, loaded.test, _torch_device())
    gates.check_answers(student, test)
    who = job.stage or job.role
    job.watch.say(f"{who} {student.name}: {test.top1:.1%} on {test.n} test images")
    return keep(student, job.out, origin, validation, test)


def _keep_peer(
    peer: Backbone, shown: Preprocess, job: Job, origin: Origin, loaded: Loaders
) -> None:
    """Who learned beside the student is a network of its own, in a folder inside the student's."""
    validation, test = (_judge(peer, shown, split) for split in (loaded.validation, loaded.test))
    job.watch.say(f"peer {peer.name}: {test.top1:.1%} on {test.n} test images")
    keep(peer, job.out / PEER, replace(origin, role="peer"), validation, test)


def _torch_device() -> torch.device:
    """Where to evaluate."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def adopt(recipe: Recipe, out: Path, watch: Watch, *, restart: bool = False) -> Artifact:
    """Keep a teacher that came with weights as an artifact, judged on this data's images."""
    job = Job("teacher", recipe.teacher, recipe.teach, LABELS, recipe, out, watch, restart)
    splits = open_splits(recipe.data)
    teacher = build(recipe.teacher, splits.labels)
    known = job.fingerprint(teacher, splits)
    finished = job.finished(known)
    if finished is not None:
        return finished
    validation, test = (
        evaluate(
            teacher.model, eval_loader(split, teacher.preprocess, recipe.data), _torch_device()
        )
        for split in (splits.validation, splits.test)
    )
    gates.check_teacher(teacher, validation)
    watch.say(f"teacher {teacher.name}: {test.top1:.1%} on {test.n} test images")
    return keep(teacher, out, Origin("teacher", recipe, known), validation, test)


def _load(job: Job, splits: Splits, student: Backbone) -> Loaders:
    total = len(splits.train) + len(splits.validation) + len(splits.test)
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if done % 500 == 0 or done == total:
            job.watch.progress("decode", done, total, "images")

    return loaders(splits, student.preprocess, job.recipe.data, job.train, tick=tick)


def _judge(network: Backbone, shown: Preprocess, loader: Loader) -> Scores:
    """The accuracy of a network on batches made for another one, reframed as in training."""
    model = torch.nn.Sequential(Reframe(shown, network.preprocess), network.model)
    return evaluate(model, loader, _torch_device())
