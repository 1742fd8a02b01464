"""Engine: everything that changes during a training, built once, saved and restored as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from edgekd.data import Batch
from edgekd.errors import UsageError
from edgekd.features import Features
from edgekd.trainer import checkpoint, collective, compiling, studying
from edgekd.trainer.asking import Asker
from edgekd.trainer.company import gathered, with_all
from edgekd.trainer.learner import Peers, Teacher
from edgekd.trainer.optimising import optimizer_of, schedule_of
from edgekd.trainer.precision import resolve, settle
from edgekd.trainer.resident import peak_gb
from edgekd.trainer.rounding import Rounding
from edgekd.trainer.sharding import is_spread
from edgekd.trainer.starting import accompany, begin, leave_out
from edgekd.trainer.task import Task


class Engine:
    """The learner, its teacher and its optimiser, on their device, and how far they are."""

    def __init__(self, task: Task, say: Callable[[str], None] = lambda text: None) -> None:
        self._task, self.world = task, collective.meet()
        self.precision = resolve(task.train.precision)
        self.accelerator = _accelerator(self.precision, task)
        settle(self.accelerator.device)
        self.autocast = self.accelerator.autocast if self.precision != "fp32" else nullcontext
        self.per_epoch = len(task.loaders.train)
        torch.manual_seed(task.train.seed)
        self.teacher: Teacher | None = None
        self.asker: Asker | None = None
        if task.teacher is not None and task.method.uses_teacher:
            self.teacher = Teacher(task.teacher, task.student.preprocess, task.method)
        self.bare = begin(task, self.teacher)
        self.bare.train().to(memory_format=torch.channels_last)
        if self.teacher is not None:
            self.teacher.to(self.accelerator.device)
            if not is_spread(task.train):  # whose parts lie flat in memory
                self.teacher.to(memory_format=torch.channels_last)
            self.asker = _asker(self.teacher, self.autocast, self.precision, task, say)
            self._study(say)
        optimizer = optimizer_of(self.bare, task.train, self.accelerator.device)
        self.scheduler = schedule_of(optimizer, task.train, self.per_epoch)
        if self.world.size > 1:
            leave_out(self.bare, task, self.teacher)
        self.learner, prepared = self.accelerator.prepare(self.bare, optimizer)
        self.optimizer: Optimizer = prepared.optimizer
        # a copy made before the student is on its device would stay behind
        self._ema = ModelEmaV3(self.bare.student, task.train.ema) if task.train.ema else None
        self._part = accompany(self.bare, task) if self.world.size > 1 else None
        self.rounding = Rounding(task.train.quantise, [self.bare.student, self.result])
        zero = torch.zeros((), device=self.accelerator.device)
        self.sums = [zero.clone() for _ in task.method.weights]
        self.step = self.summed = 0
        self._seconds_before, self._began_at = 0.0, time.monotonic()
        self._restore()
        if task.train.compile:
            self._compile(say)

    def _compile(self, say: Callable[[str], None]) -> None:
        """Compile the networks, as they are now, and prove it on one batch."""
        first = next(iter(self._task.loaders.train.epoch(0))).to(self.accelerator.device)
        given = self.bare, self.teacher, self.autocast, self.precision, first
        compiling.compile_step(*given, say)

    def _study(self, say: Callable[[str], None]) -> None:
        """What belongs to the teacher learns from it; a checkpoint has it already."""
        task = self._task
        if collective.shared((task.folder / checkpoint.NAME).is_file()):
            studying.freeze(task.method)
            return
        task.method.to(self.accelerator.device)
        epochs = task.train.epochs
        studying.study(task.method, self._teachings, self.per_epoch, epochs, task.library, say)

    def _teachings(self, epoch: int) -> Iterator[tuple[Features, Batch]]:
        """What the teacher shows for one epoch of training images."""
        for batch in self._task.loaders.train.epoch(epoch):
            placed = batch.to(self.accelerator.device)
            shown = self.ask(placed)
            yield (shown, placed) if self.world.size == 1 else (gathered(shown), with_all(placed))

    def ask(self, batch: Batch) -> Features:
        """What the frozen teacher shows for a batch on its device."""
        assert self.asker is not None
        return self.asker.ask(batch)

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

    def peak_gb(self) -> float:
        """Of the processes on this machine together; all ask. Memory they share counts for each."""
        first = self.world.rank - self.world.rank % self.world.neighbours
        peaks = collective.stacked(torch.tensor([peak_gb(self._task.loaders)]))
        return round(float(peaks[first : first + self.world.neighbours].sum()), 3)

    def wait(self, seconds: float) -> None:
        """Leave out time in which others trained."""
        self._began_at += seconds

    def release(self) -> None:
        """After the last step: close the trackers, and leave bare networks."""
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.rounding.release()
        if self._part is not None:
            self._part()
            self.learner = self.bare
            self.accelerator.free_memory()  # what averages gradients would wait for the others

    def begin(self) -> None:
        """Before a step: of several processes, each draws random numbers of its own."""
        for learner in self.bare.learners if self.world.size > 1 else ():
            assert learner.company is not None
            learner.company.begin(self.step)

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

    def level(self) -> None:
        """Before all save: the losses so far are those of all, for they go on from main's."""
        if self.world.size > 1 and self.summed:
            self.sums = list(collective.mean(torch.stack(self.sums)).unbind())

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
        file = self._task.folder / checkpoint.NAME
        state = checkpoint.load(file, self._task.fingerprint)
        if state is None:
            return
        try:
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            self.step, self.summed = state["step"], state["summed"]
            self.sums = [loss.to(self.accelerator.device) for loss in state["sums"]]
            self._seconds_before = state["seconds"]
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            first = str(error).strip().partition("\n")[0]
            raise UsageError(
                f"the checkpoint {file} does not fit this training, as it was damaged or kept by "
                f"an edgekd that trained otherwise ({first}). Start again with --restart."
            ) from error

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


def _asker(
    teacher: Teacher,
    autocast: Callable[[], Any],
    precision: str,
    task: Task,
    say: Callable[[str], None],
) -> Asker:
    loader, epochs, memo = task.loaders.train, task.train.epochs, task.memo
    if is_spread(task.train):
        memo = None  # all have to ask it each time, or those who do wait for the others
    if task.train.compile and memo is not None:
        memo = None  # a graph for each size of a part, and other bits than the whole batch's
        say("teacher: its answers are not kept: it is compiled (train.compile)")
    return Asker(
        teacher, autocast, precision=precision, memo=memo, loader=loader, epochs=epochs, say=say
    )
