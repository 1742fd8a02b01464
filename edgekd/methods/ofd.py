"""Match the teacher's maps from before their ReLU, but only where it says something.

Heo, Kim, Yun, Park, Kwak & Choi, "A Comprehensive Overhaul of Feature Distillation", ICCV 2019,
arXiv:1904.01866.

    m     = E[ a | a < 0 ]   of each channel of the teacher's maps a, before their activation
    t     = max(a, m)        the margin ReLU
    s     = BN(W a_s)        the student's map through a 1x1 convolution
    L     = sum over stages of the mean of  0 if s <= t <= 0, else (s - t)^2

Deviations: the margins are counted on the training images, where the authors compute them from the
weights of the normalisation in front, so that any teacher has them. What a batch adds to the counts
fades by a hundredth with each later batch, of a frozen teacher as of a peer, so that a margin is
about that of the last hundred batches, and a peer's old maps do not decide. The teacher stays in
evaluation mode, where the authors' code lets its running statistics drift. Each stage's loss is a
mean over channels and places; the authors sum those and weigh a stage half as much as the next
coarser one, which is the same up to one factor wherever channels double as sides halve: their
weight w is one of w C H W of the last map here, 16 for 1e-3 and 256x8x8, and 10 for 1e-4 and
2048x7x7. Where the maps of a stage differ in size, the larger is averaged down to the smaller.

Suits: convolutional students of a convolutional teacher with ReLU, of any size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features, pair_maps, same_size
from edgekd.methods import Term

__all__ = ["OFD"]

FADING = 0.99
"""What a batch's count is worth one batch later."""


class OFD(Term):
    """The overhaul of feature distillation.

    Args:
        relu: whether what the teacher says below 0 is cut off behind its maps. False compares
            all of it, for a teacher without ReLU, such as a transformer.
    """

    needs = frozenset({"preacts"})
    study_share = 0.0  # once over the images is enough to count

    def __init__(self, relu: bool = True) -> None:
        super().__init__()
        if not isinstance(relu, bool):
            raise ValueError(f"relu must be true or false, got {relu!r}")
        self.relu = relu

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        if self.relu:
            self.of_teacher = _Margins(teacher.preacts)
        pairs = pair_maps(student.preacts, teacher.preacts)
        self.adapters = nn.ModuleList(_adapter(s.shape[1], t.shape[1]) for s, t in pairs)

    def study(self, teacher: Features, batch: Batch) -> Tensor:
        assert isinstance(self.of_teacher, _Margins)
        self.of_teacher.count(teacher.preacts)
        return teacher.logits.new_zeros(())

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        wanted = teacher.preacts
        if self.of_teacher is not None:
            with torch.no_grad():
                wanted = self.of_teacher(wanted)
        pairs = pair_maps(student.preacts, wanted)
        adapted = [adapter(s) for adapter, (s, _) in zip(self.adapters, pairs, strict=True)]
        losses = [
            self._distance(*same_size(s, t)) for s, (_, t) in zip(adapted, pairs, strict=True)
        ]
        return sum(losses[1:], losses[0])

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        if not self.relu:
            return F.mse_loss(student, teacher)
        heard = (student > teacher) | (teacher > 0)
        return ((student - teacher).square() * heard).mean()


class _Margins(nn.Module):
    """What each channel of the teacher's maps says below 0, on average; all stages in a row."""

    total: Tensor
    share: Tensor

    def __init__(self, maps: Sequence[Tensor]) -> None:
        super().__init__()
        self.channels = [map.shape[1] for map in maps]
        zeros = maps[0].new_zeros(sum(self.channels)) if maps else torch.zeros(0)
        self.register_buffer("total", zeros)
        self.register_buffer("share", zeros.clone())

    def extra_repr(self) -> str:  # margins counted otherwise are others
        return f"fading={FADING}"

    @torch.no_grad()
    def count(self, maps: Sequence[Tensor]) -> None:
        """Add what a batch says, sums over its images of means over places; let the past fade."""
        total = torch.cat([map.clamp(max=0).mean((2, 3)).sum(0) for map in maps])
        share = torch.cat([(map < 0).to(map.dtype).mean((2, 3)).sum(0) for map in maps])
        self.total.mul_(FADING).add_(total)
        self.share.mul_(FADING).add_(share)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The margin ReLU of each map; a plain one where nothing was below 0, or counted yet."""
        margins = torch.split(self.total / (self.share + (self.share == 0)), self.channels)
        return tuple(
            torch.maximum(map, margin[:, None, None])
            for map, margin in zip(maps, margins, strict=True)
        )


def _adapter(student: int, teacher: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(student, teacher, 1, bias=False), nn.BatchNorm2d(teacher))
