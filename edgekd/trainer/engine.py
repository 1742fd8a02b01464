"""Engine: everything that changes during a training, built once, saved and restored as one."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from edgekd.data import Batch
from edgekd.errors import UsageError
from edgekd.features import Features
from edgekd.loading import Loaders
from edgekd.methods import Method
from edgekd.models import Backbone
from edgekd.models.reframe import Reframe
from edgekd.recipe import Train
from edgekd.trainer import checkpoint, studying
from edgekd.trainer.learner import Learner, Peers, Teacher
from edgekd.trainer.precision import resolve
from edgekd.trainer.rounding import Rounding


@dataclass(frozen=True)
class Task:
    """One network to train."""

    student: Backbone
    teacher: Backbone | None
    method: Method
    loaders: Loaders
    train: Train
    folder: Path
    """Where the checkpoint, ``metrics.jsonl`` and ``student.safetensors`` are kept."""
    fingerprint: str
    """What the checkpoint must match to be gone on with."""
    library: studying.Library | None = None
    """Where what is learned from the teacher alone is kept for later students."""
    peer: Backbone | None = None
    """A network that learns beside the student, each the other's teacher; there is no other."""


class Engine:
    """The learner, its teacher and its optimiser, on their device, and how far they are."""

    def __init__(self, task: Task, say: Callable[[str], None] = lambda text: None) -> None:
        self._task = task
        self.precision = resolve(task.train.precision)
        self.accelerator = _accelerator(self.precision, task)
        self.autocast = self.accelerator.autocast if self.precision != "fp32" else nullcontext
        self.per_epoch = len(task.loaders.train)
        torch.manual_seed(task.train.seed)
        self.teacher: Teacher | None = None
        if task.teacher is not None and task.method.uses_teacher:
            self.teacher = Teacher(task.teacher, task.student.preprocess, task.method)
        self.bare = _peers(task) if task.peer is not None else _learner(task, self.teacher)
        self.bare.train().to(memory_format=torch.channels_last)
        if self.teacher is not None:
            self.teacher.to(self.accelerator.device).to(memory_format=torch.channels_last)
            self._study(say)
        optimizer = _optimizer(self.bare, task.train)
        self.scheduler = _scheduler(optimizer, task.train, self.per_epoch)
        self.learner, prepared = self.accelerator.prepare(self.bare, optimizer)
        self.optimizer: Optimizer = prepared.optimizer
        # a copy made before the student is on its device would stay behind
        self._ema = ModelEmaV3(self.bare.student, task.train.ema) if task.train.ema else None
        self.rounding = Rounding(task.train.quantise, [self.bare.student, self.result])
        zero = torch.zeros((), device=self.accelerator.device)
        self.sums = [zero.clone() for _ in task.method.weights]
        self.step = self.summed = 0
        self._seconds_before, self._began_at = 0.0, time.monotonic()
        self._restore()

    def _study(self, say: Callable[[str], None]) -> None:
        """What belongs to the teacher learns from it; a checkpoint has it already."""
        task = self._task
        if (task.folder / checkpoint.NAME).is_file():
            studying.freeze(task.method)
            return
        task.method.to(self.accelerator.device)
        epochs = task.train.epochs
        studying.study(task.method, self._teachings, self.per_epoch, epochs, task.library, say)

    def _teachings(self, epoch: int) -> Iterator[tuple[Features, Batch]]:
        """What the teacher shows for one epoch of training images."""
        for batch in self._task.loaders.train.epoch(epoch):
            placed = batch.to(self.accelerator.device)
            yield self.ask_teacher(placed.image), placed

    def ask_teacher(self, image: Tensor) -> Features:
        """What the frozen teacher shows for a batch on its device."""
        assert self.teacher is not None
        with self.autocast():
            features: Features = self.teacher(image)
        return features

    @property
    def result(self) -> nn.Module:
        """The student, or its moving average."""
        found: nn.Module = self.bare.student if self._ema is None else self._ema.module
        return found

    @property
    def peer(self) -> nn.Module | None:
        """The bare network that learns beside the student, if one does."""
        return self.bare.second.student if isinstance(self.bare, Peers) else None

    @property
    def seconds(self) -> float:
        """Time spent training, over all sittings."""
        return self._seconds_before + time.monotonic() - self._began_at

    def wait(self, seconds: float) -> None:
        """Leave out time in which others trained."""
        self._began_at += seconds

    def update(self, loss: Tensor, clip: float) -> None:
        """Backward pass and optimiser step.

        The wrappers Accelerate puts around both look packages up on every call, which costs more
        than a small network's step; what they would do here is the loss scale of fp16.
        """
        scaler = self.accelerator.scaler
        (loss if scaler is None else scaler.scale(loss)).backward()
        if clip:
            self.accelerator.clip_grad_norm_(self.learner.parameters(), clip)
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()
        self.optimizer.zero_grad()

    def average(self) -> None:
        """Move the moving average along, if there is one."""
        if self._ema is not None:
            self._ema.update(self.bare.student, step=self.step)

    def is_finite(self) -> bool:
        """Whether every parameter and every loss so far is a number; waits for the device."""
        norms = torch._foreach_norm([p.detach() for p in self.bare.parameters()])
        return bool(torch.stack([*norms, *self.sums]).isfinite().all())

    def save(self) -> None:
        """Write the checkpoint; only the main process does."""
        if not self.accelerator.is_main_process:
            return
        state: dict[str, Any] = {
            "fingerprint": self._task.fingerprint,
            "step": self.step,
            "seconds": self.seconds,
            "sums": self.sums,
            "summed": self.summed,
        }
        for name, part in self._parts().items():
            state[name] = part.state_dict()
        checkpoint.save(self._task.folder / checkpoint.NAME, state)

    def _restore(self) -> None:
        state = checkpoint.load(self._task.folder / checkpoint.NAME, self._task.fingerprint)
        if state is None:
            return
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step, self.summed = state["step"], state["summed"]
        self.sums = [loss.to(self.accelerator.device) for loss in state["sums"]]
        self._seconds_before = state["seconds"]

    def _parts(self) -> dict[str, Any]:
        """What has a state of its own; the schedule follows from the step alone."""
        parts = {
            "learner": self.bare,
            "optimizer": self.optimizer,
            "ema": self._ema,
            "scaler": self.accelerator.scaler,
            "ranges": self.rounding.simulation,
        }
        return {name: part for name, part in parts.items() if part is not None}


def _accelerator(precision: str, task: Task) -> Accelerator:
    AcceleratorState._reset_state()  # a process may train several networks, one after the other
    made = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        log_with=list(task.train.trackers) or None,
        project_dir=str(task.folder),
    )
    if task.train.trackers:
        try:
            made.init_trackers("edgekd")
        except Exception as error:  # each tracker has classes of its own
            first = str(error).partition("\n")[0]
            raise UsageError(f"{', '.join(task.train.trackers)} cannot start: {first}") from error
    return made


def _learner(task: Task, teacher: Teacher | None) -> Learner:
    """Build the adapters from one probe batch, in evaluation mode."""
    probe = _probe(task)
    learner = Learner(task.student.model, task.method, probe[:1]).eval()
    with torch.no_grad():
        student = learner.tap(probe).float()
        shown = teacher(probe) if teacher is not None else student
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
    """Two training images, augmented."""
    image: Tensor = next(iter(task.loaders.train.epoch(0))).image[:2].cpu()
    return image


def _optimizer(learner: Learner | Peers, train: Train) -> Any:
    try:
        return create_optimizer_v2(
            learner, train.optimizer, train.lr, train.weight_decay, train.momentum
        )
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(
            f"the optimiser {train.optimizer} refuses these settings: {error}. "
            "Change them, or take another optimiser."
        ) from error


def _scheduler(optimizer: Any, train: Train, per_epoch: int) -> Any:
    warmup: Any = min(train.warmup_epochs, train.epochs / 5)  # timm takes fractions
    scheduler, _ = create_scheduler_v2(
        optimizer,
        train.schedule,
        num_epochs=train.epochs,
        warmup_epochs=warmup,
        decay_epochs=train.epochs / 3,
        decay_milestones=[train.epochs // 2, train.epochs * 3 // 4],
        warmup_lr=train.lr / 100,
        step_on_epochs=False,
        updates_per_epoch=per_epoch,
    )
    return scheduler
