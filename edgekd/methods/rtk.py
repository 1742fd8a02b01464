"""Match each map to the teacher maps most like it (RTK, reconstruction).

Yang, Kao & Huang, "Representative Teacher Keys for Knowledge Distillation Model Compression Based
on Attention Mechanism for Image Classification", 2022, arXiv:2206.12788.

    l_st = ( <q_s, k_t> + <place_s, place_t> ) / sqrt(dim),   q, k learned from the pooled maps
    a_st = softmax over the k teacher maps t with the largest l_st, 0 for the others
    D_st = || Q(S_s) - Q(T_t) ||^2,   Q(F) = vec( mean_c F_c^2 ) to length 1, at the smaller size
    L    = mean_s sum_t a_st D_st,   mean over the batch;   s, t count the blocks' outputs

Deviations: this is a reconstruction. The abstract was all there was to read, and there is no
public code: that the similarity of maps comes from attention and that a filter drops useless
information is the authors'; the equations above are this project's, after AFD (see ``afd``) with
the roles turned as the title has it. So a student's map is the query, the teacher's maps are the
keys, and a filter leaves the most similar ones, which the paper may well do otherwise; none of its
numbers are claimed. While the similarity is still random all keys take part: the filter closes
step by step in the ``warmup``. Distances are sums over the places, or the attention would find
large maps alike. Of more than 32 maps every second takes part.

Suits: low-capacity students of much deeper teachers: each block learns from a few blocks only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Term
from edgekd.methods._attention import (
    Similarity,
    Size,
    block_maps,
    distances,
    energies,
    pooled,
    size_of,
    unit,
)

__all__ = ["RTK"]

CHOICES = {
    "scope": ("sample", "batch"),
    "sim": ("learned", "map"),
    "match": ("pairwise", "prototype"),
}
SHARPNESS = 10.0
"""Of the similarity ``map``, whose values lie in [0, 1]."""


class RTK(Term):
    """Representative teacher keys (reconstruction); a weight of 10 is usual, 5 for large images.

    Args:
        dim: how long queries and keys are.
        k: how many teacher maps each map of the student keeps; 0 keeps a third of them, rounded
            up. Of a single one nothing is left to weigh, so the similarity learns in the warm-up
            only.
        scope: rank the keys for each "sample", or once for the "batch" by their mean similarity,
            which is steadier for small batches.
        sim: the similarity is "learned", or that of the energy "map"s: (1 - D/2) / 0.1, without
            gradient, parameters or warm-up.
        match: weigh the distances to the kept maps, "pairwise", or take one distance to their
            weighted mean, the "prototype"; all maps are then compared at the smallest size.
        balance: how much to add of the divergence of the teacher maps' mean weights from equal
            ones, against a learned similarity that settles on easy maps; 0.01 to 0.1, or 0.
        bilinear: give each pair of maps a query of its own, as AFD does, for more parameters.
        warmup: the share of the training in which the filter closes, in [0, 1].
    """

    needs = frozenset({"blocks"})

    def __init__(
        self,
        dim: int = 128,
        k: int = 0,
        scope: str = "sample",
        sim: str = "learned",
        match: str = "pairwise",
        balance: float = 0.0,
        bilinear: bool = False,
        warmup: float = 0.1,
    ) -> None:
        super().__init__()
        if not isinstance(dim, int) or dim < 1:
            raise ValueError(f"dim must be a whole number of 1 or more, got {dim}")
        if not isinstance(k, int) or k < 0:
            raise ValueError(f"k must be a whole number of 0 or more, got {k}")
        for name, value in (("scope", scope), ("sim", sim), ("match", match)):
            if value not in CHOICES[name]:
                raise ValueError(f"{name} must be one of {', '.join(CHOICES[name])}, got {value}")
        if not 0 <= balance < math.inf:
            raise ValueError(f"balance must be 0 or more, got {balance}")
        if not isinstance(bilinear, bool):
            raise ValueError(f"bilinear must be true or false, got {bilinear}")
        if not 0 <= warmup <= 1:
            raise ValueError(f"warmup must be in [0, 1], got {warmup}")
        self.dim, self.k, self.scope, self.match = dim, k, scope, match
        self.balance, self.bilinear = balance, bilinear
        self.learned = sim == "learned"
        self.whole_batch = scope == "batch" or balance > 0
        self.warmup = warmup if self.learned else 0.0

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        s, t = block_maps(student), block_maps(teacher)
        if self.k > len(t):
            raise ValueError(
                f"k must be at most {len(t)}, the number of teacher maps, got {self.k}"
            )
        if self.learned:
            self.similarity = Similarity(s, t, self.dim, self.bilinear)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        maps = block_maps(student), block_maps(teacher)
        s, t = (energies(side) for side in maps)
        if self.match == "prototype":
            s, t = at_smallest_size(s, t)
        D = distances(s, t, smaller)  # (B, Ns, Nt)
        likeness = self.similarity(*maps) if self.learned else SHARPNESS * (1 - D.detach() / 2)
        k = keys_kept(self.k, D.shape[2], batch.progress, self.warmup)
        a = representative(likeness, k, self.scope)
        loss = (prototype(a, s[0], t[0]) if self.match == "prototype" else (a * D).sum(2)).mean()
        return loss + self.balance * imbalance(a) if self.balance else loss


def keys_kept(k: int, keys: int, progress: float, warmup: float) -> int:
    """How many of the keys take part: all at first, ``k`` (0: a third) when warmed up."""
    k = k or math.ceil(keys / 3)
    if progress >= warmup:
        return k
    return max(k, math.ceil(keys - (keys - k) * progress / warmup))


def representative(likeness: Tensor, k: int, scope: str) -> Tensor:
    """Attention over the ``k`` most similar keys, exactly 0 for the others, (B, Ns, Nt)."""
    ranked = likeness.detach()
    if scope == "batch":
        ranked = ranked.mean(0, keepdim=True)
    kept = ranked.topk(k, dim=2).indices
    dropped = torch.ones_like(ranked, dtype=torch.bool).scatter(2, kept, False)
    return likeness.masked_fill(dropped, -math.inf).softmax(2)


def prototype(a: Tensor, student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of each map to the weighted mean of the teacher's, (B, Ns)."""
    size = size_of(student)
    return (unit(student, size) - a @ unit(teacher, size)).square().sum(2)


def imbalance(a: Tensor) -> Tensor:
    """Divergence of the mean weight of each key from an equal one: 0 when all are used alike."""
    m = a.mean((0, 1))  # (Nt,)
    return (m * (len(m) * m).clamp_min(1e-12).log()).sum()  # a key never used adds 0


def smaller(a: Size, b: Size) -> Size:
    return min(a[0], b[0]), min(a[1], b[1])


def at_smallest_size(*sides: Sequence[Tensor]) -> list[list[Tensor]]:
    """The energies of each side at the smallest size among them, as one run."""
    size = reduce(smaller, [size_of(run) for side in sides for run in side])
    return [[torch.cat([pooled(run, size) for run in side], 1)] for side in sides]
