"""Review: fuse the student's deep maps into its fine ones and match the teacher at each.

Chen, Liu, Zhao & Jia, "Distilling Knowledge via Knowledge Review", CVPR 2021, arXiv:2104.09044.

From the coarsest level to the finest, the first being the pooled embedding as a map of one place:

    x_i   = BN(W_i a_i)                             the student's map a_i, to `mid` channels
    f_i   = p x_i + q up(f_{i+1}),   p, q = sigmoid(V_i [x_i, up(f_{i+1})])    at each place
    o_i   = BN(U_i resize(f_i))                     3x3, to the teacher's channels and size
    L     = sum_i HCL(o_i, t_i),   t_i the teacher's map before its activation

HCL is the mean squared difference, plus 1/2, 1/4 and 1/8 times that of the maps averaged to 4x4,
2x2 and 1x1 places, over the sum of those weights; grids that are not smaller both ways are left
out. At the coarsest level f is x alone.

Deviations: none from the equations. Where the teacher's map has one place U is a 1x1 convolution,
as the rest of a larger one would only ever see padding. All resizing takes the nearest place.

The authors weigh it 0.6 (ResNet-56 to 20) to 8, depending on the pair, and let that grow from 0
over the first 20 of 240 epochs; in a recipe, with 1 for the pair's weight:
``reviewkd = { weight = [0, 1], ramp = [0, 0.083] }``.

Suits: pairs far apart in depth or width, when each step may cost more.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features, pair_maps
from edgekd.methods import Term

__all__ = ["ReviewKD"]


class ReviewKD(Term):
    """Knowledge review.

    Args:
        mid: channels in which the student's levels are fused; 0 takes as many as the student's
            embedding has, and at most 512.
    """

    needs = frozenset({"stages", "preacts", "embedding"})

    def __init__(self, mid: int = 0) -> None:
        super().__init__()
        if not isinstance(mid, int) or isinstance(mid, bool) or mid < 0:
            raise ValueError(f"mid must be a whole number of at least 0, got {mid!r}")
        self.mid = mid

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        levels = list(_levels(student, teacher))
        mid = self.mid or min(512, levels[0][0].shape[1])
        self.fusions = nn.ModuleList(
            _Fusion(s.shape[1], mid, t, deepest=depth == 0) for depth, (s, t) in enumerate(levels)
        )

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        losses: list[Tensor] = []
        fused: Tensor | None = None
        levels = _levels(student, teacher)
        for fusion, (s, t) in zip(self.fusions, levels, strict=True):
            fused, said = fusion(s, fused, t.shape[2:])
            losses.append(_hierarchical(said - t))
        return sum(losses[1:], losses[0])


class _Fusion(nn.Module):
    """One level of the student, with what was fused below it, in the teacher's shape."""

    def __init__(self, channels: int, mid: int, teacher: Tensor, deepest: bool) -> None:
        super().__init__()
        kernel = 3 if max(teacher.shape[2:]) > 1 else 1
        self.narrow = _adapter(channels, mid, 1)
        self.attend = None if deepest else nn.Conv2d(2 * mid, 2, 1)
        self.widen = _adapter(mid, teacher.shape[1], kernel)

    def forward(
        self, map: Tensor, deeper: Tensor | None, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        fused = self.narrow(map)  # (B, mid, H, W)
        if self.attend is not None and deeper is not None:
            deeper = _resized(deeper, (map.shape[2], map.shape[3]))
            share = self.attend(torch.cat([fused, deeper], 1)).sigmoid()  # (B, 2, H, W)
            fused = share[:, :1] * fused + share[:, 1:] * deeper
        fused = _resized(fused, size)
        return fused, self.widen(fused)


def _levels(student: Features, teacher: Features) -> Iterator[tuple[Tensor, Tensor]]:
    """What the student shows and what the teacher says, coarse to fine."""
    assert student.embedding is not None
    assert teacher.embedding is not None
    yield student.embedding[:, :, None, None], teacher.embedding[:, :, None, None]
    yield from reversed(pair_maps(student.stages, teacher.preacts))


def _hierarchical(difference: Tensor) -> Tensor:
    """HCL; averaging is linear, so that the difference of averages is that of the difference."""
    loss, weight, total = difference.square().mean(), 1.0, 1.0
    for side in (4, 2, 1):
        if side < min(difference.shape[2:]):
            weight /= 2
            total += weight
            loss = loss + weight * F.adaptive_avg_pool2d(difference, side).square().mean()
    return loss / total


def _resized(map: Tensor, size: tuple[int, int]) -> Tensor:
    return map if map.shape[2:] == size else F.interpolate(map, size, mode="nearest")


def _adapter(channels: int, out: int, kernel: int) -> nn.Module:
    convolution = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(out))
