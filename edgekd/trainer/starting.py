"""Starting: the learner as a training finds it first, with adapters made for what is shown."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from edgekd.data import Batch
from edgekd.errors import UsageError
from edgekd.loading import Loaders
from edgekd.models.reframe import Reframe
from edgekd.recipe import Train
from edgekd.trainer import collective
from edgekd.trainer.company import Company
from edgekd.trainer.learner import Learner, Peers, Teacher
from edgekd.trainer.norms import synchronise
from edgekd.trainer.task import Task
from edgekd.world import world


def begin(task: Task, teacher: Teacher | None) -> Learner | Peers:
    """One learner, or two that teach each other, on the CPU; built in evaluation mode.

    Args:
        task: what is trained.
        teacher: the frozen one, if the method looks at one.
    """
    return _peers(task) if task.peer is not None else _learner(task, teacher)


def _learner(task: Task, teacher: Teacher | None) -> Learner:
    """Build the adapters from one probe batch, in evaluation mode."""
    probe = _probe(task)
    learner = Learner(task.student.model, task.method, probe[:1]).eval()
    with torch.no_grad():
        student = learner.tap(probe).float()
        # one that is spread answers from its GPU already
        shown = student if teacher is None else teacher(probe).mapped(Tensor.cpu)
    task.method.build(student, shown, task.loaders.train.targets)
    return learner


def _peers(task: Task) -> Peers:
    """Two learners with a method each, built from what the other shows."""
    assert task.peer is not None
    probe, reframe = _probe(task), Reframe(task.student.preprocess, task.peer.preprocess)
    methods = task.method, copy.deepcopy(task.method)
    first = Learner(task.student.model, methods[0], probe[:1]).eval()
    second = Learner(task.peer.model, methods[1], task.peer.example).eval()
    with torch.no_grad():
        mine, theirs = first.tap(probe).float(), second.tap(reframe(probe)).float()
    for method, own, other in ((methods[0], mine, theirs), (methods[1], theirs, mine)):
        method.with_peer = True
        method.build(own, other, task.loaders.train.targets)
    return Peers(first, second, reframe)


def _probe(task: Task) -> Tensor:
    """The first two training images, augmented; the same in every process."""
    image = next(iter(task.loaders.train.epoch(0))).image[:2].cpu()
    return collective.gathered(image)[:2]


def leave_out(bare: Learner | Peers, task: Task, teacher: Teacher | None) -> None:
    """Name what processes need not tell each other: buffers, and parameters without a gradient.

    Buffers agree, because what fills them does. Parameters that no loss depends on are found by one
    backward pass on two images; ``find_unused_parameters`` would search for them in every step.
    Each process does it by itself, and with the same result.

    Args:
        bare: on the CPU; it is left as it was.
        task: what is trained.
        teacher: the frozen one, on its device.
    """
    kept = [(buffer, buffer.clone()) for buffer in bare.buffers()]
    first = next(iter(task.loaders.train.epoch(0)))
    batch = Batch(first.image[:2].cpu(), first.target[:2].cpu(), first.index[:2].cpu())
    shown: Any = None
    with torch.random.fork_rng():
        if teacher is not None:
            device = next(teacher.parameters()).device
            shown = teacher(batch.image.to(device)).mapped(Tensor.cpu)
        bare(batch, shown)[0].backward()
    unused = [name for name, p in bare.named_parameters() if p.requires_grad and p.grad is None]
    bare.zero_grad()
    for buffer, value in kept:
        buffer.copy_(value)
    buffers = [name for name, _ in bare.named_buffers()]
    tell: Any = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    tell(bare, [*unused, *buffers])


def accompany(bare: Learner | Peers, task: Task) -> Callable[[], None]:
    """Let a learner see what it must of the other processes' shares.

    Returns:
        What ends it and leaves the networks bare.
    """
    for number, learner in enumerate(bare.learners):
        learner.company = Company(task.train.seed, number)
    terms = [
        term
        for learner in bare.learners
        for name, term in learner.method.named.items()
        if not learner.method.sees_whole(name)  # they have all images before them already
    ]
    release = synchronise([*(learner.student for learner in bare.learners), *terms])

    def part() -> None:
        release()
        for learner in bare.learners:
            learner.company = None

    return part


def images_per_step(task: Task) -> int:
    """Of all processes together; there may be fewer than ``train.batch_size``."""
    return _whole_batch(task.loaders, task.train)


def _whole_batch(loaders: Loaders, train: Train) -> int:
    return min(train.batch_size, len(loaders.train.targets))


def check_shares(loaders: Loaders, train: Train) -> None:
    """Refuse what several processes cannot divide among them.

    Raises:
        UsageError: a batch that gives unequal shares, or fewer validation or test images than
            processes.
    """
    size, batch = world().size, _whole_batch(loaders, train)
    if batch % size:
        raise UsageError(
            f"train.batch_size counts the images of a step over all processes, and {batch} cannot "
            f"be divided by {size}. Set it to {max(1, batch // size) * size}."
        )
    more = {"validation": "hold out more images (data.validation)", "test": "give more of them"}
    for name, way in more.items():
        count = len(getattr(loaders, name).targets)
        if count < size:
            raise UsageError(
                f"{count} {name} images are fewer than the {size} processes; expected one for each "
                f"at least. Start fewer processes, or {way}."
            )
