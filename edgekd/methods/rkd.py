"""Keep the distances and angles between images as the teacher has them.

Park, Kim, Lu & Cho, "Relational Knowledge Distillation", CVPR 2019, arXiv:1904.05068.

    d_ij  = ||x_i - x_j|| / mean distance,   of the embeddings x of two images
    a_ijk = cos of the angle at j between x_i and x_k, of three images
    L     = distance * mean_ij h(d_ij^s - d_ij^t) + angle * mean_ijk h(a_ijk^s - a_ijk^t)

h is the Huber loss with a threshold of 1. The weights of the two are the authors' for classifying,
25 and 50, so a weight of 1 is usual here.

Deviations: none from the authors' code. Unlike the paper it takes the means over all pairs and
triplets, with those that name one image twice and add nothing, and the mean distance over pairs
that differ. Embeddings that coincide have no direction: the angle's cosine is 0 there, and the
gradient finite. Takes memory for B x B x D differences and B x B x B angles, D the widths.

Suits: networks of any width, as no adapter is needed; embeddings meant for search or clustering.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Term

__all__ = ["RKD"]


class RKD(Term):
    """Relational distillation of embeddings.

    Args:
        distance: the weight of distances between two images, at least 0.
        angle: the weight of angles between three images, at least 0.
    """

    needs = frozenset({"embedding"})
    whole_batch = True

    def __init__(self, distance: float = 25.0, angle: float = 50.0) -> None:
        super().__init__()
        for name, value in (("distance", distance), ("angle", angle)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number of at least 0, got {value}")
        if distance == angle == 0:
            raise ValueError("distance and angle must not both be 0: nothing would be learned")
        self.distance = distance
        self.angle = angle

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        (s, to_s), (t, to_t) = _differences(student), _differences(teacher)
        losses = []
        if self.distance:
            losses.append(self.distance * F.smooth_l1_loss(_relative(s), _relative(t)))
        if self.angle:
            losses.append(self.angle * F.smooth_l1_loss(to_s @ to_s.mT, to_t @ to_t.mT))
        return sum(losses[1:], losses[0])


def _differences(features: Features) -> tuple[Tensor, Tensor]:
    """How far (B, B) and in which direction (B, B, D) the others lie from each image."""
    assert features.embedding is not None
    between = features.embedding - features.embedding[:, None]  # [j, i] = x_i - x_j
    length = torch.linalg.vector_norm(between, dim=2)
    return length, between / (length + (length == 0))[:, :, None]


def _relative(length: Tensor) -> Tensor:
    mean = length.sum() / (length > 0).sum().clamp(min=1)
    return length / (mean + (mean == 0))
