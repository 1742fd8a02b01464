"""Company: what a learner does because other processes train the same network beside it.

Each process sees its share of a batch. Most losses are a mean over images, and the mean over the
processes is then that of the batch. A term whose loss of an image depends on the other images is
shown the whole batch (``Term.whole_batch``): what all networks showed is gathered.
"""

from __future__ import annotations

import zlib
from dataclasses import replace

import torch

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Method, Shown, View
from edgekd.trainer import collective
from edgekd.world import world


class Company:
    """The other processes, as one learner meets them.

    All random numbers depend on the seed and the step, so that each process draws what it must: a
    student its own, since its images are its own; a term that sees the whole batch, whose memory
    has to stay the same everywhere, the same ones.

    Args:
        seed: of the training.
        number: of the learner, where several are trained in one.
    """

    def __init__(self, seed: int, number: int = 0) -> None:
        self._seed, self._number, self._step = seed, number, 0

    def begin(self, step: int) -> None:
        """Before a step's forward pass."""
        self._step = step
        self._draw(str(world().rank))

    def view(self, method: Method, student: Features, teacher: Features, batch: Batch) -> View:
        """What each term is shown: this process's share, or the whole batch."""
        whole: list[Shown] = []

        def show(name: str, wide: bool) -> Shown:
            if not wide:
                self._draw(f"{name} {world().rank}")
                return student, teacher, batch
            if not whole:
                whole.append(gather(student, teacher, batch, method.whole_needs))
            self._draw(name)
            return whole[0]

        return show

    def _draw(self, what: str) -> None:
        text = f"{self._seed} {self._step} {self._number} {what}"
        torch.manual_seed(zlib.crc32(text.encode()))


def gather(student: Features, teacher: Features, batch: Batch, needs: frozenset[str]) -> Shown:
    """What every process has, in the order of the batch; gradients go to the student alone.

    The images themselves stay where they are: a loss that wants their pixels is a mean over them.
    """
    both = student.only(needs).mapped(collective.joined), gathered(teacher.only(needs))
    return *both, with_all(batch)


def gathered(shown: Features) -> Features:
    """What a network showed in every process, without a way back."""
    return shown.mapped(collective.gathered)


def with_all(batch: Batch) -> Batch:
    """The batch with everybody's targets and indices, and with its own images alone."""
    target, index = collective.gathered(batch.target), collective.gathered(batch.index)
    return replace(batch, target=target, index=index, key=None)
