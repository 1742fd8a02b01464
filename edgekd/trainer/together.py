"""Together: students of one teacher train in lockstep, and the teacher is asked once a batch.

Every student ends with the very bits that a training of its own would have given it: it sees the
same batches, the teacher's answers to them, and random numbers of its own. With ``train.compile``
these are the bits but for rounding: alone, the teacher is compiled, too.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from edgekd.data import Batch
from edgekd.errors import CrewError, DivergedError
from edgekd.features import Features
from edgekd.trainer import checkpoint
from edgekd.trainer.asking import Asker
from edgekd.trainer.learner import Teacher
from edgekd.trainer.loop import Interrupted, Tell, Trained, Trainer
from edgekd.trainer.pace import Pace
from edgekd.trainer.precision import resolve
from edgekd.trainer.resident import told_peak
from edgekd.trainer.signals import Ears
from edgekd.trainer.starting import images_per_step
from edgekd.trainer.task import Task

SAMPLED = 16
"""On a GPU, which has to be waited for, one step of so many is timed; elsewhere each one."""


class Together:
    """Train several students that are shown the same batches.

    A student whose last checkpoint is ahead of the others' waits for them; one that diverges, or
    whose method cannot learn what it needs of the teacher, is left behind.

    Args:
        tasks: alike in teacher, images and their order, batch size, precision and epochs; each
            with a student, a seed and a folder of its own.
        tells: of each, told how far it is.
        say: told what the students should not decide in silence.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        tells: Sequence[Tell],
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        pairs = zip(tasks, tells, strict=True)
        self._places = [_seated(task, tell, say) for task, tell in pairs]
        self._seats = [place for place in self._places if isinstance(place, _Seat)]
        self._loader, train = tasks[0].loaders.train, tasks[0].train
        self._log_steps, self._batch_size = train.log_steps, images_per_step(tasks[0])
        self._asker = _asker(tasks, self._seats[0].trainer, say) if self._seats else None
        self._sitting = secrets.token_hex(4)
        self._asked: list[float] = []
        self._say, self._pace = say, Pace(self._loader, say)
        self._ears = Ears()

    def run(self) -> list[Trained | DivergedError]:
        """Train all to the end.

        Returns:
            What each left, or why it could not; what a training of its own adds to its facts is
            ``together``: how many it trained with, what a step took, in ms, which share of the
            teacher's answers was there already, and the name of this sitting: only times of one
            sitting say which step costs more.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; the state of all was saved.
            CrewError: there is nobody to decode images any more; the state of all was saved.
        """
        for seat in self._seats:
            seat.begin()
        with self._ears.listening():
            try:
                self._train()
            except CrewError:  # each between two of its steps
                for seat in self._seats:
                    seat.save()
                raise
        if self._asker is not None:
            self._asker.finish()
        found = [
            self._finish(place) if isinstance(place, _Seat) else place for place in self._places
        ]
        peaks = [one.facts["peak_gb"] for one in found if isinstance(one, Trained)]
        if peaks:
            self._say(told_peak(max(peaks)))
        return found

    def _train(self) -> None:
        while going := [seat for seat in self._seats if seat.is_going]:
            step = min(seat.trainer.step for seat in going)
            epoch, start = divmod(step, len(self._loader))
            self._show(self._pace.of(self._loader.epoch(epoch, start)), step)

    def _show(self, batches: Iterator[Batch], step: int) -> None:
        """What is left of an epoch, to all who are due; and say whether loading held them up."""
        began, first = time.perf_counter(), step
        for batch in batches:
            if not self.share(batch, step):
                break
            step += 1
        self._pace.told((step - first) * self._batch_size, time.perf_counter() - began)
        self._pace.end()

    def share(self, batch: Batch, step: int) -> bool:
        """One step of all who are due, on the batch of that step; false where nobody is."""
        due = [seat for seat in self._seats if seat.is_going and seat.trainer.step == step]
        if not due:
            return False
        stopping = self._ears.heard
        device = due[0].trainer.device
        timed = device.type == "cpu" or step % SAMPLED == 0
        clock = _Clock(device if timed else torch.device("cpu"))
        batch = batch if device.type == "cpu" else batch.to(device)
        shown = self._ask(batch, due)
        asked, took = clock.lap(), {}
        for seat in due:
            seat.advance(batch, shown)
            took[seat] = clock.lap()
        if timed:
            self._asked += [asked] * (shown is not None)
            for seat in due:
                seat.took.append(took[seat])
        self._wait({s: t + asked * s.looks for s, t in took.items()}, clock.total)
        clock = _Clock(torch.device("cpu"))
        for seat in due:
            seat.attend(stopping)
            took[seat] = clock.lap()
        self._wait(took, clock.total)
        if self._asker is not None and (step + 1) % self._log_steps == 0:
            self._asker.hits()  # which writes what a GPU has sent
        if stopping:
            raise Interrupted(self._ears.number)
        return True

    def _ask(self, batch: Batch, due: Sequence[_Seat]) -> Features | None:
        if self._asker is None or not any(seat.looks for seat in due):
            return None
        return self._asker.ask(batch)

    def _wait(self, own: Mapping[_Seat, float], total: float) -> None:
        """Each student's time is its own, and the teacher's, as if it had trained by itself."""
        for seat in self._seats:
            seat.trainer.wait(total - own.get(seat, 0.0))

    def _finish(self, seat: _Seat) -> Trained | DivergedError:
        found = seat.finish()
        if isinstance(found, DivergedError):
            return found
        facts = {
            "sitting": self._sitting,
            "students": len(self._seats),
            "ms_per_step": _median_ms(seat.took),
            "teacher_ms_per_step": _median_ms(self._asked),
            "teacher_hits": None if self._asker is None else self._asker.share,
        }
        return replace(found, facts={**found.facts, "together": facts})


@dataclass(frozen=True)
class _Union:
    """What several methods look at."""

    needs: frozenset[str]


def _asker(tasks: Sequence[Task], trainer: Trainer, say: Callable[[str], None]) -> Asker | None:
    """It asks for all that any of the methods looks at; one of them trains as they all do."""
    looking = [task for task in tasks if task.teacher is not None and task.method.uses_teacher]
    if not looking:
        return None
    first, needs = looking[0], frozenset[str]().union(*(task.method.needs for task in looking))
    assert first.teacher is not None
    made = Teacher(first.teacher, first.student.preprocess, _Union(needs))
    made = made.to(trainer.device).to(memory_format=torch.channels_last)
    if first.train.compile:  # the next student's graph may overwrite what a graph gave
        say("teacher: it is not compiled where several students look at its answers")
    return Asker(
        made,
        trainer.autocast,
        precision=resolve(first.train.precision),
        memo=first.memo,
        loader=first.loaders.train,
        epochs=first.train.epochs,
        say=say,
    )


class _Seat:
    """One student: its training, and the state of the generators it draws from."""

    def __init__(self, task: Task, tell: Tell, say: Callable[[str], None]) -> None:
        self.looks = task.teacher is not None and task.method.uses_teacher
        self.trainer = Trainer(replace(task, memo=None), tell, say)  # they remember together
        self.took: list[float] = []
        self._generators = checkpoint.generators()
        self._failed: DivergedError | None = None
        self._ready_at = time.perf_counter()

    @property
    def is_going(self) -> bool:
        """Whether there are steps left that can be made."""
        return self._failed is None and not self.trainer.is_done

    def begin(self) -> None:
        """The others are ready, too."""
        self.trainer.wait(time.perf_counter() - self._ready_at)

    def advance(self, batch: Batch, shown: Features | None) -> None:
        """One step, with no more of the teacher than it would have been shown alone."""
        with self._drawing():
            own = shown.only(self.trainer.needs) if shown is not None and self.looks else None
            self.trainer.advance(batch, own)

    def attend(self, stopping: bool) -> None:
        """What is due after a step."""
        with self._drawing(), self._diverging():
            self.trainer.attend(stopping)

    def save(self) -> None:
        """Keep its state, between two steps."""
        with self._drawing(), self._diverging():
            if self.is_going:
                self.trainer.save()

    def finish(self) -> Trained | DivergedError:
        """What it left."""
        with self._drawing(), self._diverging():
            if self._failed is None:
                return self.trainer.finish()
        assert self._failed is not None
        return self._failed

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        checkpoint.set_generators(self._generators)
        try:
            yield
        finally:
            self._generators = checkpoint.generators()

    @contextmanager
    def _diverging(self) -> Iterator[None]:
        try:
            yield
        except DivergedError as error:
            self._failed = error


def _seated(task: Task, tell: Tell, say: Callable[[str], None]) -> _Seat | DivergedError:
    """A seat, or why what the method has to learn of the teacher beforehand came to nothing."""
    try:
        return _Seat(task, tell, say)
    except DivergedError as error:
        return error


class _Clock:
    """Seconds since it was made, and between two looks; it waits for a GPU to be done."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._wait()
        self._began = self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last look."""
        self._wait()
        before, self._last = self._last, time.perf_counter()
        return self._last - before

    @property
    def total(self) -> float:
        """Seconds up to the last look."""
        return self._last - self._began

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _median_ms(seconds: Sequence[float]) -> float | None:
    """None where no step was timed in this sitting."""
    return round(1000 * statistics.median(seconds), 4) if seconds else None
