"""Train a network as a recipe says, and leave an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from edgekd.artifact import Artifact, read_manifest
from edgekd.data import Loader
from edgekd.errors import UsageError
from edgekd.files import writing
from edgekd.flow import gates
from edgekd.flow.choosing import check_peer, is_auto, method_of
from edgekd.flow.identity import answers, teachings
from edgekd.flow.job import PEER, Job
from edgekd.flow.keeping import Origin, keep
from edgekd.flow.launch import check_alike, check_seen, claimed, one_first
from edgekd.flow.opening import load, opened
from edgekd.loading import Loaders, Splits, eval_loader
from edgekd.methods import Method
from edgekd.models import Backbone, build
from edgekd.models.licences import merged
from edgekd.models.reframe import Reframe
from edgekd.models.zoo import HUB, TORCHVISION
from edgekd.preprocess import Preprocess
from edgekd.recipe import Network, Recipe
from edgekd.trainer import Library, Memo, Scores, Task, Trained, Trainer, evaluate
from edgekd.trainer.collective import device, meet
from edgekd.trainer.sharding import is_spread, shard
from edgekd.trainer.starting import check_shares
from edgekd.watching import Silent, Watch

LABELS: Mapping[str, Any] = {"ce": {"weight": 1.0}}
"""The method of who learns from the labels alone."""


def teach(
    recipe: Recipe, out: Path, watch: Watch | None = None, *, restart: bool = False
) -> Artifact:
    """Train or fine-tune ``recipe.teacher`` on the labels, as ``recipe.teach`` says."""
    with claimed(out, "teach"):
        job = Job(
            "teacher", recipe.teacher, recipe.teach, LABELS, recipe, out, watch or Silent(), restart
        )
        return carry_out(job, None, opened(recipe.data))


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
    with claimed(out, "distill"):
        job = Job("student", recipe.student, recipe.train, method, recipe, out, watch, restart)
        has_peer = check_peer(recipe, teacher)
        splits = opened(recipe.data)
        if teacher is None and not has_peer:
            with one_first():
                teacher = teacher_of(recipe, splits.labels)
        return carry_out(job, teacher, splits)


def teacher_of(recipe: Recipe, labels: Sequence[str]) -> Backbone:
    """The recipe's teacher, with its weights.

    Raises:
        UsageError: it has none.
    """
    name = recipe.teacher.name
    if not comes_trained(recipe.teacher):
        if Path(name).exists() or "/" in name.removeprefix(TORCHVISION):
            read_manifest(Path(name))  # which says what is there instead
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
    with claimed(out, "distill"):
        job = Job("baseline", recipe.student, train, table, recipe, out, watch or Silent(), restart)
        return carry_out(job, None, opened(recipe.data))


def carry_out(job: Job, teacher: Backbone | None, splits: Splits) -> Artifact:
    """Train one network, or take what its folder holds of this very training.

    Raises:
        GateError: the teacher is near chance, or the network answers with infinities.
        UsageError: the folder holds another training.
    """
    for note in splits.notes:
        job.watch.say(note)
    known = job.known(teacher, splits)
    check_alike(known)
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
        beside: another student of this teacher, with the same images in the same order; it is not
            loaded again what that one loaded, nor is the teacher judged again.

    Raises:
        GateError: the teacher is near chance.
    """
    job.check_room()
    with one_first():
        torch.manual_seed(job.train.seed)
        start = job.start
        student = start or build(job.network, splits.labels, job.recipe.data.size, new_head=True)
        peer = _peer_of(job, splits)
    if peer is not None:  # each learns from the other
        origins = merged(student.licences, peer.licences)
        student, peer = replace(student, licences=origins), replace(peer, licences=origins)
    if teacher is not None:
        gates.check_sizes(teacher, student)
    targets = torch.from_numpy(splits.train.targets)
    method = method_of(job.table, student, teacher, peer, targets, job.watch)
    if teacher is not None and is_spread(job.train):
        shard(teacher)
        job.watch.say(f"teacher {teacher.name}: its parameters lie on {meet().size} processes")
    shown = splits, student.preprocess, job.recipe.data, job.train
    loaded = load(*shown, job.watch) if beside is None else beside.task.loaders
    check_shares(loaded, job.train)
    taught = None if beside is None else beside.taught
    library = memo = None
    if teacher is not None:
        if taught is None:
            taught = _judge(teacher, student.preprocess, loaded.validation)
            gates.check_teacher(teacher, taught)
            job.watch.say(f"teacher {teacher.name}: {taught.top1:.1%} on validation images")
        library, memo = _shelves(job, teacher, student, loaded.train, splits.augment)
    state = job.out / "training"
    if meet().is_main:
        with writing(job.out):
            if job.discards:
                job.clear()
            state.mkdir(parents=True, exist_ok=True)
    check_seen(job.out)
    task = Task(student, teacher, method, loaded, job.train, state, known, library, peer, memo)
    return Lesson(job, task, taught, {"images": len(splits.train), "augment": splits.augment})


def _shelves(
    job: Job, teacher: Backbone, student: Backbone, loader: Loader, augment: str
) -> tuple[Library | None, Memo | None]:
    """Where what this teacher shows, and what is learned of it, is kept for the next time."""
    if is_spread(job.train):  # no process knows it whole, or may ask it by itself
        return None, None
    made_of = teacher, student, job.train, job.recipe.data
    library = Library.of_user(partial(teachings, *made_of, loader))
    key = partial(answers, *made_of, augment, loader)
    return library, Memo.of_user(key, job.train.cache_gb)


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
    if meet().is_main:
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
    test = evaluate(student.model, loaded.test, device())
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


def adopt(recipe: Recipe, out: Path, watch: Watch, *, restart: bool = False) -> Artifact:
    """Keep a teacher that came with weights as an artifact, judged on this data's images."""
    job = Job("teacher", recipe.teacher, recipe.teach, LABELS, recipe, out, watch, restart)
    splits = opened(recipe.data)
    teacher = build(recipe.teacher, splits.labels)
    known = job.known(teacher, splits)
    finished = job.finished(known)
    if finished is not None:
        return finished
    place = device()
    validation, test = (
        evaluate(
            teacher.model,
            eval_loader(split, teacher.preprocess, recipe.data, device=place),
            place,
        )
        for split in (splits.validation, splits.test)
    )
    gates.check_teacher(teacher, validation)
    watch.say(f"teacher {teacher.name}: {test.top1:.1%} on {test.n} test images")
    return keep(teacher, out, Origin("teacher", recipe, known), validation, test)


def _judge(network: Backbone, shown: Preprocess, loader: Loader) -> Scores:
    """The accuracy of a network on batches made for another one, reframed as in training."""
    model = torch.nn.Sequential(Reframe(shown, network.preprocess), network.model)
    return evaluate(model, loader, device())
