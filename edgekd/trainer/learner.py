"""Learner: the student and the method's adapters as one module, so that one wrapper serves both."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Method
from edgekd.models import Backbone, Tap, freeze
from edgekd.models.reframe import Reframe
from edgekd.preprocess import Preprocess
from edgekd.trainer.company import Company


class Looks(Protocol):
    """Whoever says what a network has to show: a method, or several together."""

    @property
    def needs(self) -> frozenset[str]:
        """Which features."""


class Learner(nn.Module):
    """From a batch and what the teacher showed to the loss, and each term's share of it."""

    def __init__(self, student: nn.Module, method: Method, example: Tensor) -> None:
        super().__init__()
        self.tap = Tap(student, method.needs, example)
        self.method = method
        self.company: Company | None = None
        """The other processes that train it, if there are any."""

    @property
    def student(self) -> nn.Module:
        """The bare network."""
        return self.tap.model

    @property
    def learners(self) -> list[Learner]:
        """Itself."""
        return [self]

    def no_weight_decay(self) -> set[str]:
        """What the student and the method exempt from weight decay, as timm asks for it."""
        own = getattr(self.student, "no_weight_decay", set)
        adapters = {f"method.{name}" for name in self.method.no_weight_decay()}
        return {f"tap.model.{name}" for name in own()} | adapters

    def forward(self, batch: Batch, teacher: Features | None) -> tuple[Tensor, list[Tensor]]:
        """One forward pass; losses are computed in float32 whatever the network runs in.

        Returns:
            The loss to minimise, and the weighted loss of each term, detached; all scalars.
        """
        return self.judge(self.tap(batch.image), teacher, batch)

    def judge(
        self, shown: Features, teacher: Features | None, batch: Batch
    ) -> tuple[Tensor, list[Tensor]]:
        """The same of what the student showed already."""
        with _in_float32(batch.image.device.type):
            student = shown.float()
            # a method that does not look at a teacher is handed the student's own features
            given = student, student if teacher is None else teacher, batch
            view = None if self.company is None else self.company.view(self.method, *given)
            losses = self.method(*given, view)
        first, *rest = losses.values()
        return sum(rest, first), [loss.detach() for loss in losses.values()]

    def constrain(self) -> None:
        """After an optimiser step."""
        self.method.constrain()


class Peers(nn.Module):
    """Two learners that are each other's teacher, in one forward pass and one optimiser step.

    Zhang, Xiang, Hospedales & Lu, "Deep Mutual Learning", CVPR 2018, arXiv:1706.00384. Deviation:
    both are updated from the same predictions; the paper updates one after the other. The gradient
    is clipped as one, and a moving average is kept of the student alone.
    """

    def __init__(self, first: Learner, second: Learner, reframe: Reframe) -> None:
        super().__init__()
        self.first, self.second, self.reframe = first, second, reframe

    @property
    def student(self) -> nn.Module:
        """The bare network that was asked for."""
        return self.first.student

    @property
    def learners(self) -> list[Learner]:
        """Both."""
        return [self.first, self.second]

    def no_weight_decay(self) -> set[str]:
        """Of both."""
        both = {"first": self.first, "second": self.second}
        return {f"{key}.{name}" for key, who in both.items() for name in who.no_weight_decay()}

    def forward(self, batch: Batch, teacher: None) -> tuple[Tensor, list[Tensor]]:
        """Both losses together, and the student's terms."""
        mine, theirs = self.first.tap(batch.image), self.second.tap(self.reframe(batch.image))
        loss, losses = self.first.judge(mine, theirs.float().detached(), batch)
        other, _ = self.second.judge(theirs, mine.float().detached(), batch)
        return loss + other, losses

    def constrain(self) -> None:
        """After an optimiser step."""
        self.first.constrain()
        self.second.constrain()


class Teacher(nn.Module):
    """The frozen network, fed as its own weights expect, answering in float32."""

    def __init__(self, backbone: Backbone, shown: Preprocess, method: Looks) -> None:
        super().__init__()
        self.reframe = Reframe(shown, backbone.preprocess)
        self.tap = Tap(freeze(backbone.model), method.needs, backbone.example)
        self.eval()

    @torch.no_grad()
    def forward(self, image: Tensor) -> Features:
        """What it shows for a batch normalised for the student, (B, 3, H, W)."""
        features: Features = self.tap(self.reframe(image))
        return features.float()


def _in_float32(device: str) -> AbstractContextManager[object]:
    """Without autocast; where there is none, entering and leaving would be all it does."""
    if torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
