"""Look where the teacher looks: match spatial attention maps.

Zagoruyko & Komodakis, "Paying More Attention to Attention: Improving the Performance of
Convolutional Neural Networks via Attention Transfer", ICLR 2017, arXiv:1612.03928, equation 2.

    Q(A) = vec( sum_c |A_c|^p )
    L    = sum over stages of || Q(A_s)/||Q(A_s)|| - Q(A_t)/||Q(A_t)|| ||^2,  mean over the batch

Deviations: the distance is squared, as in the authors' code; it is summed over the H*W places,
where that code averages over them and multiplies by 1000. Theirs is 1000 / (H*W) times the sum: 1
times at 32x32 places, 3.9 times at 16x16 and 15.6 times at 8x8, so that with a weight of 1 coarse
stages weigh less here. Where the maps of a stage differ in size, the larger attention map is
averaged down to the smaller; maps of one place, where there is nowhere to look, are left out.

Suits: networks of one kind and similar depth; maps of transformers attend elsewhere.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features, same_size, spatial_pairs
from edgekd.methods import Term

__all__ = ["AT"]


class AT(Term):
    """Activation-based attention transfer.

    Args:
        power: the exponent p of the activations, at least 1; below, activations of exactly 0, as
            a ReLU leaves them, would have no finite gradient.
    """

    needs = frozenset({"stages"})

    def __init__(self, power: float = 2.0) -> None:
        super().__init__()
        if not power >= 1:
            raise ValueError(f"power must be at least 1, got {power}")
        self.power = power

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        spatial_pairs(student, teacher)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        losses = [
            (s - t).square().sum(1).mean()
            for s, t in (self._attention(*pair) for pair in spatial_pairs(student, teacher))
        ]
        return sum(losses[1:], losses[0])

    def _attention(self, student: Tensor, teacher: Tensor) -> list[Tensor]:
        maps = [map.abs().pow(self.power).sum(1, keepdim=True) for map in (student, teacher)]
        return [F.normalize(q.flatten(1), dim=1) for q in same_size(*maps)]  # (B, H*W)
