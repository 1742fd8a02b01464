"""Find those images alike that the teacher finds alike.

Tung & Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, arXiv:1907.09682.

    Q     = a stage's maps, one flattened row an image
    G~    = Q Q^T,   G_i = G~_i / ||G~_i||   for each row i
    L     = sum_ij (G_t - G_s)_ij^2 / B

Deviations: divided by the batch size B where the paper divides by B^2. A row's squared distance
does not grow with B, so that this is a mean over the batch, and the weight need not change with
the batch size; the authors' 3000 at batch B is a weight of 3000 / B here, 47 at 64 images. An
image whose map is all 0 is like none, itself included, and sends a finite gradient.

Suits: networks of unlike build, as no adapter is needed; batches of 64 images or more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgekd.data import Batch
from edgekd.features import Features, pair_stages
from edgekd.methods import Term

__all__ = ["SP"]


class SP(Term):
    """Similarity-preserving distillation.

    Args:
        stage: which pair of stages, counted as Python counts: -1 is the coarsest.
    """

    needs = frozenset({"stages"})
    whole_batch = True

    def __init__(self, stage: int = -1) -> None:
        super().__init__()
        if not isinstance(stage, int) or isinstance(stage, bool):
            raise ValueError(f"stage must be a whole number, got {stage!r}")
        self.stage = stage

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        count = len(pair_stages(student, teacher))
        if not -count <= self.stage < count:
            raise ValueError(
                f"there is no stage {self.stage} among {count} pairs of stages; "
                f"expected one from {-count} to {count - 1}"
            )

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        s, t = map(_similarity, pair_stages(student, teacher)[self.stage])
        return (t - s).square().sum(1).mean()


def _similarity(maps: Tensor) -> Tensor:
    rows = maps.flatten(1)
    gram = rows @ rows.T  # (B, B)
    length: Tensor = torch.linalg.vector_norm(gram, dim=1, keepdim=True)
    return gram / (length + (length == 0))  # an epsilon would blow the gradient of a 0 row up
