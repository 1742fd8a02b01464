"""Tell each image's teacher embedding from those of other classes.

Tian, Krishnan & Isola, "Contrastive Representation Distillation", ICLR 2020, arXiv:1910.10699.

    L = - log h(i, i) - sum over K negatives j of log( 1 - h(i, j) ),  mean over the batch
    h(i, j) = e / (e + K/N),  e = exp( v_i . m_j / T ) / Z

v_i is one network's embedding of image i, mapped linearly to unit length; m_j is a moving average
of the other network's for image j of the N training images, kept in a memory. Both directions are
added up. Z, as in the authors' code, is N times the mean of exp(v . m / T) in the first batch.

Deviations: the K negatives, images of other classes, are drawn with replacement, and K is at most
the number of images that every class has outside of it. The sum is computed from logarithms, so
the code's 1e-7 beside K/N is not needed. The authors' weight of 0.8 is a weight of 0.8 here.

Memory: 8 N dim bytes on the training device and in the checkpoint (51 MB for 50,000 images, 1.3 GB
for ImageNet); during a step as much again for a copy, and 8 B N for the scores of B images.

Suits: networks of different kinds; training sets of which the device can hold every embedding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Term

__all__ = ["CRD"]


class CRD(Term):
    """Contrastive distillation of embeddings, with a memory of all training images.

    Args:
        negatives: how many images of other classes each image is told from, 1 or more.
        dim: width of the space in which embeddings are compared, 1 or more.
        temperature: the T that divides cosines, above 0.
        momentum: the share of what was remembered that stays when an image is seen again, in
            [0, 1).
    """

    needs = frozenset({"embedding"})
    whole_batch = True
    classes: Tensor
    order: Tensor
    begin: Tensor
    size: Tensor

    def __init__(
        self,
        negatives: int = 16384,
        dim: int = 128,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ) -> None:
        super().__init__()
        for option, value in (("negatives", negatives), ("dim", dim)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{option} must be a whole number from 1 on, got {value!r}")
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.negatives, self.dim = negatives, dim
        self.temperature, self.momentum = temperature, momentum

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        if student.embedding is None or teacher.embedding is None:
            raise ValueError("expected embeddings of both networks, and one of them shows none")
        self._sort(targets)
        self.student_side = Remembered(student.embedding.shape[1], self.dim, len(targets))
        self.teacher_side = Remembered(teacher.embedding.shape[1], self.dim, len(targets))

    def _sort(self, targets: Tensor) -> None:
        """Prepare for drawing from all classes but one."""
        size = targets.bincount()
        outside = len(targets) - int(size.max()) if len(targets) else 0
        if not outside:
            raise ValueError(
                f"expected training images of at least two classes, got {len(targets)} of "
                f"{int(size.count_nonzero())}; take a method that needs no negatives"
            )
        self.count = min(self.negatives, outside)
        self.register_buffer("classes", targets.clone())
        self.register_buffer("order", targets.argsort(stable=True), persistent=False)
        self.register_buffer("begin", size.cumsum(0) - size, persistent=False)
        self.register_buffer("size", size, persistent=False)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        assert student.embedding is not None
        assert teacher.embedding is not None
        s = self.student_side(student.embedding)  # (B, dim)
        t = self.teacher_side(teacher.embedding)
        shown = torch.cat([batch.index[:, None], self._drawn(batch.index)], 1)  # (B, 1 + K)
        loss = self._told_apart(s, self.teacher_side, shown)
        loss = loss + self._told_apart(t, self.student_side, shown)
        if self.training:
            self.student_side.remember(batch.index, s, self.momentum)
            self.teacher_side.remember(batch.index, t, self.momentum)
        return loss

    def _drawn(self, index: Tensor) -> Tensor:
        """Images of other classes than each image's own, (B, K)."""
        own = self.classes[index][:, None]
        # a remainder of that many possible numbers is as good as uniform
        drawn = torch.randint(2**62, (len(index), self.count), device=index.device)
        drawn = drawn % (len(self.order) - self.size[own])
        # the images stand sorted by class: step over the block of the own one
        return self.order[drawn + self.size[own] * (drawn >= self.begin[own])]

    def _told_apart(self, v: Tensor, other: Remembered, shown: Tensor) -> Tensor:
        """The first of ``shown`` is the same image; all others are not."""
        # all scores, then those wanted: reads far less than gathering K vectors for each image;
        # a copy, as the memory changes before the backward pass
        scores = (v @ other.memory.clone().mT / self.temperature).gather(1, shown)
        chance = math.log(self.count / len(self.order))
        odds = scores - other.partition(scores, self.training) - chance  # h is their sigmoid
        return (F.softplus(-odds[:, 0]) + F.softplus(odds[:, 1:]).sum(1)).mean()


class Remembered(nn.Module):
    """A learned map of embeddings to the unit sphere, and where it last put each image.

    Args:
        width: channels of the embeddings.
        dim: channels on the sphere.
        images: how many there are.
    """

    memory: Tensor
    log_z: Tensor

    def __init__(self, width: int, dim: int, images: int) -> None:
        super().__init__()
        self.adapter = nn.Linear(width, dim)
        bound = math.sqrt(3 / dim)  # of length 1 on average
        self.register_buffer("memory", torch.empty(images, dim).uniform_(-bound, bound))
        self.register_buffer("log_z", torch.tensor(math.inf))  # until the first batch

    def forward(self, embedding: Tensor) -> Tensor:
        return F.normalize(self.adapter(embedding), dim=1)

    @torch.no_grad()
    def partition(self, scores: Tensor, training: bool) -> Tensor:
        """The logarithm of Z, from the first scores ever seen in training."""
        first = scores.flatten().logsumexp(0) + math.log(len(self.memory) / scores.numel())
        log_z = torch.where(self.log_z.isinf(), first, self.log_z)
        if training:
            self.log_z.copy_(log_z)
        return log_z

    @torch.no_grad()
    def remember(self, index: Tensor, v: Tensor, momentum: float) -> None:
        """Move the memory of these images towards ``v``."""
        moved = momentum * self.memory[index] + (1 - momentum) * v
        self.memory.index_copy_(0, index, F.normalize(moved, dim=1))
