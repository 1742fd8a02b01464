"""edgekd's own step on images drawn at random, as the parts of ``step.py`` time it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
from floor import BATCH, CLASSES, floor
from torch import Tensor, nn

from edgekd.data import Batch, Images, Loader
from edgekd.loading import Loaders
from edgekd.loading.memory import EvalLoader, Shift, TrainLoader
from edgekd.methods import Method
from edgekd.models import Backbone, build
from edgekd.preprocess import Preprocess
from edgekd.recipe import Network, Train
from edgekd.trainer import Task, Together, Trainer
from edgekd.trainer.memo import Memo

METHODS = ("ce + 0.9*kd", "ce + dkd", "ce + 2*dist", "ce + 25*rkd")
EPOCHS = 240
"""Of the published recipe."""
SHIFT = Shift(4, True)

Say = Callable[[str], None]
"""Told what edgekd should not decide in silence."""


class Pair(NamedTuple):
    """A teacher, a student, and the side of their images in pixels."""

    teacher: str
    student: str
    side: int = 32

    def networks(self) -> tuple[Backbone, Backbone]:
        """Both anew, with random weights."""
        labels = [str(number) for number in range(CLASSES)]
        teacher, student = (build(Network(n), labels, self.side) for n in self[:2])
        return teacher, student

    def floor(self) -> Callable[[], None]:
        """The least that plain PyTorch does for a step of them."""
        teacher, student = self.networks()
        return floor(teacher.model, student.model, (BATCH, 3, self.side, self.side))

    def __str__(self) -> str:
        return f"{self.teacher} -> {self.student}, {self.side} px, batch {BATCH}"


FOUND, QUICK = Pair("resnet32x4", "resnet8x4"), Pair("resnet14", "resnet8", 16)
"""What the literature times; and a tiny one, to see that it works."""


@dataclass(frozen=True)
class Setting:
    """Where and how students train, all on the same images."""

    folder: Path
    """Of this measurement alone."""
    precision: str = "auto"
    images: int = 4096
    side: int = 32

    @cached_property
    def pictures(self) -> Images:
        """Noise: what is in a picture costs nothing."""
        draw, side = np.random.default_rng(0), (self.side, self.side)
        pixels = draw.integers(0, 256, (self.images, *side, 3), dtype=np.uint8)
        return Images(pixels, draw.integers(0, CLASSES, self.images))

    @cached_property
    def loaders(self) -> Loaders:
        """Every student's: it keeps no state between two epochs."""
        few, shown = Images(self.pictures.pixels[:8], self.pictures.targets[:8]), _shown(self.side)
        rest = EvalLoader(few, shown)
        return Loaders(TrainLoader(self.pictures, shown, BATCH, SHIFT, 0), rest, rest)

    def task(
        self,
        teacher: Backbone,
        student: Backbone,
        text: str = METHODS[0],
        *,
        seed: int = 0,
        memo: Memo | None = None,
    ) -> Task:
        """One training; seeds differ in the first weights, not in the order of images."""
        folder = self.folder / str(sum(1 for _ in self.folder.iterdir()))
        folder.mkdir()
        train = Train(
            epochs=EPOCHS, batch_size=BATCH, precision=self.precision, warmup_epochs=0, seed=seed
        )
        method = Method.parse(text)
        return Task(student, teacher, method, self.loaders, train, folder, "bench", memo=memo)


def whole(tasks: Sequence[Task], say: Say = lambda text: None) -> Callable[[], None]:
    """A step of one training with its loader, and with what is due after a step."""
    (task,) = tasks
    trainer, drawn = Trainer(task, say=say), batches(task.loaders.train)

    def step() -> None:
        trainer.advance(next(drawn))
        trainer.attend()

    return step


def bare(task: Task) -> Callable[[], None]:
    """A step on a batch that is there already."""
    trainer, ready = Trainer(task), next(batches(task.loaders.train))
    return lambda: trainer.advance(ready)


def together(tasks: Sequence[Task], say: Say = lambda text: None) -> Callable[[], None]:
    """A step of all of them, the teacher asked once."""
    made = Together(tasks, [lambda done, total, note: None] * len(tasks), say)
    numbered = enumerate(batches(tasks[0].loaders.train))

    def step() -> None:
        number, batch = next(numbered)
        assert made.share(batch, number)

    return step


def several(work: Callable[[], None], steps: int) -> Callable[[], None]:
    """So many steps as one, for a clock that would not see a single one."""

    def all_of_them() -> None:
        for _ in range(steps):
            work()

    return all_of_them


def batches(loader: Loader) -> Iterator[Batch]:
    """Epoch after epoch."""
    for epoch in count():
        yield from loader.epoch(epoch)


class Corner(nn.Module):
    """One pixel of each image: the same work however the image lies in memory.

    Pooling is not: 25 µs a batch in NCHW, 72 µs in channels_last, which is no cost of a loop's.
    """

    def forward(self, image: Tensor) -> Tensor:
        """From (B, C, H, W) to (B, C)."""
        return image[:, :, 0, 0]


def stub(side: int) -> Backbone:
    """A network that costs next to nothing: what is left is the harness."""
    model = nn.Sequential(Corner(), nn.Linear(3, CLASSES))
    return Backbone("stub", model, _shown(side), tuple(map(str, range(CLASSES))))


def _shown(side: int) -> Preprocess:
    return Preprocess((side, side), (0.5,) * 3, (0.5,) * 3)
