"""Match codes of the embedding at several granularities, coarse to fine.

Shao & Chen, "Multi-Granularity for Knowledge Distillation", Image and Vision Computing 2021,
arXiv:2108.06681. Not to be confused with Masked Generative Distillation, also called MGD.

    a_k = E_k(f),  z_k = G_k(a_k)    codes and logits of granularity k, from the embedding f
    L   = sum_k T_k^2 * KL( softmax(a_k^t/T_k) || softmax(a_k^s/T_k) ),  mean over the batch

The teacher's E_k and G_k, two layers each, first learn to say what the frozen teacher says, by
T_k^2 * KL( softmax(z/T_k) || softmax(z_k/T_k) ) + CE(z_k, label). Few code dimensions and a low
temperature make an abstract view, many and a high one a detailed view. The softmax of codes is
over their own dimensions, not over classes, so the widths of the two networks may differ.

With ``stable`` the terms in the parentheses of "mgd(ce + kd)", or all the others of
"ce + kd + mgd", see the plain mean of z and every z_k in place of the teacher's logits z: the
paper's stable excitation. Without it they see z: granularity-wise distillation alone.

The authors give L the weight 1, beside 0.2 ce + 0.8 kd or ce + kd + a method of features; that is
a weight of 1 here. It is meant around or beside other terms: at this weight its own gradient is
small beside that of cross-entropy (0.07 against 0.94 from a ResNet-20 to a ResNet-8 on CIFAR-10).

Deviations: the two branches learn in one pass, not one after the other (they share no parameter),
and the last ones are kept where the authors' code keeps those best on the test set. The student
has encoders only, because nothing would teach it decoders. Between peers the divergence is summed
over the code dimensions as everywhere else, where that code averages them; and a peer's branches
go on learning from its logits and the labels, because without these a constant code, the same for
every image, would be the best of answers. Other terms see the mean with branches that are still
untrained at first, where the authors' peers match native logits: ``stable = false`` is theirs.

Suits: any pair, around or beside other terms; it costs next to nothing, and widths may differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Term

__all__ = ["MGD"]


class MGD(Term):
    """Multi-granularity distillation.

    Args:
        dims: code dimensions of each granularity; any number of granularities.
        temperatures: the softening T_k of each granularity, above 0.
        stable: whether other terms see the mean of the teacher's logits and of its branches'.
        study_share: how long the branches study the teacher, as a share of the student's training
            in (0, 1]; the authors took 60 epochs for 240.
    """

    needs = frozenset({"logits", "embedding"})
    study_lr = 0.01
    of_teacher: _Branches

    def __init__(
        self,
        dims: Sequence[int] = (64, 256),
        temperatures: Sequence[float] = (2.0, 8.0),
        stable: bool = True,
        study_share: float = 0.25,
    ) -> None:
        super().__init__()
        if not _are_positive(dims, int):
            raise ValueError(f"dims must be a list of whole numbers above 0, got {dims!r}")
        if not _are_positive(temperatures, int, float):
            raise ValueError(
                f"temperatures must be a list of numbers above 0, got {temperatures!r}"
            )
        if len(dims) != len(temperatures):
            raise ValueError(
                f"temperatures must be one for each of the {len(dims)} dims, got {temperatures!r}"
            )
        if not isinstance(stable, bool):
            raise ValueError(f"stable must be true or false, got {stable!r}")
        if not 0 < study_share <= 1:
            raise ValueError(f"study_share must be in (0, 1], got {study_share}")
        self.dims, self.temperatures = tuple(dims), tuple(temperatures)
        self.stable, self.study_share = stable, study_share

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        width, classes = _embedding(teacher).shape[1], teacher.logits.shape[1]
        self.of_teacher = _Branches(width, self.dims, classes)
        self.encoders = _encoders(_embedding(student).shape[1], self.dims)

    def study(self, teacher: Features, batch: Batch) -> Tensor:
        told = self.of_teacher(_embedding(teacher))
        losses = [F.cross_entropy(logits, batch.target) for logits in told]
        return sum(losses, self._divergence(told, [teacher.logits.detach()] * len(told)))

    @torch.no_grad()
    def excitation(self, teacher: Features) -> Tensor | None:
        if not self.stable:
            return None
        return torch.stack([teacher.logits, *self.of_teacher(_embedding(teacher))]).mean(0)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        with torch.no_grad():
            wanted = self.of_teacher.codes(_embedding(teacher))
        return self._divergence([e(_embedding(student)) for e in self.encoders], wanted)

    def _divergence(self, found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        losses = []
        for s, t, T in zip(found, wanted, self.temperatures, strict=True):
            logs = F.log_softmax(s / T, dim=1), F.log_softmax(t / T, dim=1)  # (B, dim)
            losses.append(T * T * F.kl_div(*logs, reduction="batchmean", log_target=True))
        return sum(losses[1:], losses[0])


class _Branches(nn.Module):
    """What the teacher says at each granularity: a code, and logits from the code alone."""

    def __init__(self, width: int, dims: Sequence[int], classes: int) -> None:
        super().__init__()
        self.encoders = _encoders(width, dims)
        self.decoders = nn.ModuleList(_two_layers(dim, width, classes) for dim in dims)

    def codes(self, embedding: Tensor) -> list[Tensor]:
        """Of each granularity, (B, dim)."""
        return [encoder(embedding) for encoder in self.encoders]

    def forward(self, embedding: Tensor) -> list[Tensor]:
        """Logits of each granularity, (B, K)."""
        codes = self.codes(embedding)
        return [decoder(code) for decoder, code in zip(self.decoders, codes, strict=True)]


def _encoders(width: int, dims: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(_two_layers(width, width, dim) for dim in dims)


def _two_layers(given: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(given, hidden), nn.ReLU(), nn.Linear(hidden, out))


def _embedding(features: Features) -> Tensor:
    if features.embedding is None:
        raise ValueError("expected an embedding of both networks, and one of them shows none")
    return features.embedding


def _are_positive(values: Any, *kinds: type) -> bool:
    if not isinstance(values, list | tuple) or not values:
        return False
    return all(type(value) in kinds and 0 < value < math.inf for value in values)
