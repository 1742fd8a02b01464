"""Match how each stage spreads its energy (KR, reconstruction).

Liu et al., "Knowledge Representing: Efficient, Sparse Representation of Prior Knowledge for
Knowledge Distillation", CVPR Workshops 2019, arXiv:1911.05329.

    c_l = pool( F_l^2 ) to K groups of channels and r x r places, divided by its mean, l in a stage
    z   = standardise( mean_l c_l ),   I = the places of the ceil(keep N) largest of the teacher's z
    p   = softmax( z_teacher[I] / T ),   q = softmax( z_student[I] / T )
    L   = mean over stages of T^2 KL(p || q),   mean over the batch

Deviations: this is a reconstruction. The abstract and a survey's table were all there was to read,
and there is no public code: that knowledge is aggregated over groups of layers into a distribution,
that a sparse recoding keeps the most important of it and sends no gradient elsewhere, and that the
loss is a cross-entropy are the authors'; the equations above are this project's, and none of the
paper's numbers are claimed. The divergence has the gradient of the cross-entropy and is 0 at best.
K and r never exceed what the maps of a stage have.

Suits: low-capacity targets: a few numbers a stage, relative ones, and no adapter to hide behind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features, spatial
from edgekd.methods import Term

__all__ = ["KR"]

Blocks = Sequence[Tensor]
Size = tuple[int, int]
LARGE = 64
"""On images that are wider or higher than this the maps are compared on the finer grid."""


class KR(Term):
    """Knowledge representing (reconstruction); a weight of 3 is usual.

    Stages are matched from the coarse end; one that has a single row or column in either network
    is left out.

    Args:
        channels: how many groups K of neighbouring channels to tell apart; 1 looks at places
            only, as it should for a student that is trained already, whose channels have an order
            of their own.
        grid: how many places r to tell apart, each way; 0 takes 4, or 7 if the student's images
            have a side of more than 64 pixels.
        temperature: softening T of both distributions, above 0.
        keep: the share of the teacher's distribution that counts, in (0, 1]; 1 recodes nothing.
        dead_zone: entries whose probabilities differ by less than this share of 1/k, k entries
            being kept, send no gradient; 0 or more.
        aggregate: one distribution for each stage; otherwise one for each of the student's
            blocks, matched with the teacher's block at the same relative depth of the stage.
    """

    needs = frozenset({"blocks"})

    def __init__(
        self,
        channels: int = 16,
        grid: int = 0,
        temperature: float = 2.0,
        keep: float = 0.25,
        dead_zone: float = 0.0,
        aggregate: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(channels, int) or channels < 1:
            raise ValueError(f"channels must be a whole number of 1 or more, got {channels}")
        if not isinstance(grid, int) or grid < 0:
            raise ValueError(f"grid must be a whole number of 0 or more, got {grid}")
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if not 0 < keep <= 1:
            raise ValueError(f"keep must be in (0, 1], got {keep}")
        if not dead_zone >= 0:
            raise ValueError(f"dead_zone must be 0 or more, got {dead_zone}")
        if not isinstance(aggregate, bool):
            raise ValueError(f"aggregate must be true or false, got {aggregate}")
        self.channels, self.grid, self.temperature = channels, grid, temperature
        self.keep, self.dead_zone, self.aggregate = keep, dead_zone, aggregate

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        paired_blocks(student, teacher)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        stages = paired_blocks(student, teacher)
        r = self.grid or (4 if max(batch.image.shape[2:]) <= LARGE else 7)
        return torch.stack([self._stage(s, t, r) for s, t in stages]).mean()

    def _stage(self, student: Blocks, teacher: Blocks, r: int) -> Tensor:
        every = [*student, *teacher]
        K = min(self.channels, *(map.shape[1] for map in every))
        size = min(r, *(map.shape[2] for map in every)), min(r, *(map.shape[3] for map in every))
        s = [code(map, K, size) for map in student]
        t = [code(map, K, size) for map in teacher]
        if self.aggregate:
            return self._loss(s, t)
        pairs = zip(s, along(t, len(s)), strict=True)
        return torch.stack([self._loss([a], [b]) for a, b in pairs]).mean()

    def _loss(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        z = standard(student), standard(teacher)
        return divergence(*z, self.keep, self.temperature, self.dead_zone)


def code(map: Tensor, channels: int, size: Size) -> Tensor:
    """Energy of groups of channels at coarse places, of mean 1, (B, N): all maps count alike."""
    energy = F.adaptive_avg_pool2d(map.square(), size).flatten(2)  # (B, C, h*w)
    energy = F.adaptive_avg_pool1d(energy.transpose(1, 2), channels).flatten(1)
    return energy / (energy.mean(1, keepdim=True) + 1e-12)


def standard(codes: Sequence[Tensor]) -> Tensor:
    """The mean of the codes, with mean 0 and variance 1 for each image, (B, N)."""
    mean = torch.stack(list(codes)).mean(0)
    return F.layer_norm(mean, mean.shape[1:], eps=1e-6)


def divergence(
    student: Tensor, teacher: Tensor, keep: float, temperature: float, dead_zone: float
) -> Tensor:
    """Of the student's distribution from the teacher's, on the largest entries of the teacher's.

    The entries that are not kept, or lie in the dead zone, send no gradient.
    """
    T, k = temperature, math.ceil(keep * teacher.shape[1])
    kept = teacher.topk(k, dim=1).indices
    z = student.gather(1, kept)
    p = F.log_softmax(teacher.gather(1, kept) / T, dim=1)  # (B, k)
    if dead_zone:
        apart = (F.softmax(z / T, dim=1) - p.exp()).abs() > dead_zone / k
        z = torch.where(apart, z, z.detach())
    q = F.log_softmax(z / T, dim=1)
    return T * T * F.kl_div(q, p, reduction="batchmean", log_target=True)


def along(codes: Sequence[Tensor], count: int) -> list[Tensor]:
    """``count`` of the codes, evenly spaced, the last of them the last."""
    return [codes[((i + 1) * len(codes) - 1) // count] for i in range(count)]


def paired_blocks(student: Features, teacher: Features) -> list[tuple[Blocks, Blocks]]:
    """The blocks of the stages that have places to tell apart in both networks, fine to coarse.

    Raises:
        ValueError: there is no such stage.
    """
    pairs = list(zip(student.blocks[::-1], teacher.blocks[::-1], strict=False))[::-1]
    coarser = [min(s[-1], t[-1], key=_side) for s, t in pairs]
    spatial(coarser)  # says what to do if none is left
    return [pair for pair, map in zip(pairs, coarser, strict=True) if _side(map) > 1]


def _side(map: Tensor) -> int:
    return min(map.shape[2:])
