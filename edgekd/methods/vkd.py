"""Match normalised features through a projection that stays orthogonal.

Miles, Elezi & Deng, "VkD: Improving Knowledge Distillation using Orthogonal Projections",
CVPR 2024, arXiv:2403.06213.

    L = d( W z, N(t) ),  mean over the batch and all elements,  W^T W = I

W keeps every length and angle between the student's features z, so the projection learns nothing
in the student's place; N, the normalisation of the teacher's features t, replaces auxiliary losses:
for classification each vector gets mean 0 and variance 1, for dense features each channel does
over the batch, in both networks; for generation the features are whitened.

Deviations: W is the Q of a learned matrix (``cholqr``), on the same manifold as the paper's matrix
exponential (``exp_thin``) and faster. The released code's parametrisation is not offered: one step
with weight decay turns it into 0. ``pooled`` averages the places of a map where that code averages
tokens. Variances get 1e-6 added, those of ``layer`` 1e-5; whitening follows a standardisation of
the channels and mixes 0.001 of the identity into their covariance. The learned scale and bias come
after the student's normalisation, which would undo them. Where the student is wider than its
teacher W projects onto a subspace (W W^T = I), and angles are not kept. The authors' weight for
classification, 1, is a weight of 1 here; for detection they took 4.

Suits: students much narrower than their teacher or of another kind; transformers above all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features, pair_stages, same_size
from edgekd.methods import Term
from edgekd.methods._orthogonal import KINDS, Orthogonal

__all__ = ["VkD"]

WIDEST = 4096
"""A wider matrix takes longer to orthonormalise than the student takes for its step."""
EPS, SHRINKAGE = 1e-6, 1e-3


class VkD(Term):
    """Orthogonal projection and task-specific normalisation.

    Args:
        where: ``pooled``: the mean over the last stage's map; ``embedding``: what the classifier
            sees, where that is not the same; ``dense``: every place of the last stage's map.
        normalise: of the teacher's features. ``layer``: each vector over its channels; ``batch``:
            each channel over the batch; ``whiten``: all channels over the batch, decorrelated;
            ``none``; ``auto``: ``batch`` where dense, else ``layer``.
        normalise_student: the same of the projected features of the student, ``batch`` or ``none``;
            ``auto``: ``batch`` where dense, else ``none``.
        projection: how W is written. ``cholqr``: by a Cholesky decomposition; ``exp_thin``: by a
            matrix exponential, slower; ``newton_schulz``: by matrix products alone.
        distance: ``smooth_l1`` or ``mse``.
        affine: whether to scale and shift the student's projected channels by learned numbers, for
            students whose features are far shorter than the teacher's normalised ones.
    """

    needs = frozenset({"stages"})

    def __init__(
        self,
        where: str = "pooled",
        normalise: str = "auto",
        normalise_student: str = "auto",
        projection: str = "cholqr",
        distance: str = "smooth_l1",
        affine: bool = False,
    ) -> None:
        super().__init__()
        _check("where", where, ("pooled", "embedding", "dense"))
        _check("normalise", normalise, ("auto", *NORMALISE))
        _check("normalise_student", normalise_student, ("auto", "batch", "none"))
        _check("projection", projection, KINDS)
        _check("distance", distance, DISTANCES)
        if not isinstance(affine, bool):
            raise ValueError(f"affine must be true or false, got {affine!r}")
        usual = ("batch", "batch") if where == "dense" else ("none", "layer")
        chosen = normalise_student, normalise
        if where == "embedding":
            self.needs = frozenset({"embedding"})  # networks without maps will do
        self.where, self.projection, self.distance = where, projection, distance
        self.norms = [u if c == "auto" else c for c, u in zip(chosen, usual, strict=True)]
        self.affine = affine
        self.whole_batch = not {"batch", "whiten"}.isdisjoint(self.norms)

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        z, t = self._rows(student, teacher)
        narrow, wide = z.shape[1], t.shape[1]
        if min(narrow, wide) > WIDEST:
            raise ValueError(
                f"an orthogonal projection from {narrow} to {wide} channels takes too long: "
                f"expected one of the networks to show at most {WIDEST}; take another method"
            )
        self.adapter = Orthogonal(narrow, wide, self.projection)
        self.scale = nn.Parameter(torch.ones(wide)) if self.affine else None
        self.bias = nn.Parameter(torch.zeros(wide)) if self.affine else None

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        rows = self._rows(student, teacher)
        z, t = NORMALISE[self.norms[0]](self.adapter(rows[0])), NORMALISE[self.norms[1]](rows[1])
        if self.scale is not None and self.bias is not None:
            z = z * self.scale + self.bias
        return DISTANCES[self.distance](z, t)

    def constrain(self) -> None:
        self.adapter.retract()

    def no_weight_decay(self) -> set[str]:
        return {name for name, _ in self.named_parameters()}

    def _rows(self, student: Features, teacher: Features) -> tuple[Tensor, Tensor]:
        """What is compared, (N, C) each."""
        if self.where == "embedding":
            if student.embedding is None or teacher.embedding is None:
                raise ValueError("expected embeddings of both networks, and one of them shows none")
            return student.embedding, teacher.embedding
        s, t = pair_stages(student, teacher)[-1]
        if self.where == "pooled":
            return s.mean((2, 3)), t.mean((2, 3))
        s, t = same_size(s, t)
        return s.movedim(1, 3).flatten(0, 2), t.movedim(1, 3).flatten(0, 2)  # (B*H*W, C)


def _check(option: str, value: str, choices: Iterable[str]) -> None:
    listed = list(choices)
    if value not in listed:
        raise ValueError(f"{option} must be one of {', '.join(listed)}, got {value!r}")


def _unchanged(rows: Tensor) -> Tensor:
    return rows


def _over_channels(rows: Tensor) -> Tensor:
    return F.layer_norm(rows, rows.shape[1:])


def _over_batch(rows: Tensor) -> Tensor:
    return (rows - rows.mean(0)) * (rows.var(0) + EPS).rsqrt()


def _whitened(rows: Tensor) -> Tensor:
    """To covariance I; by Cholesky's factor, as any rotation of it would do as well."""
    rows = _over_batch(rows)
    covariance = rows.mT @ rows / (len(rows) - 1)
    eye = torch.eye(len(covariance), dtype=rows.dtype, device=rows.device)
    # fewer rows than channels leave directions without variance
    L = torch.linalg.cholesky_ex((1 - SHRINKAGE) * covariance + SHRINKAGE * eye).L
    white: Tensor = torch.linalg.solve_triangular(L, rows.mT, upper=False)
    return white.mT


NORMALISE = {
    "layer": _over_channels,
    "batch": _over_batch,
    "whiten": _whitened,
    "none": _unchanged,
}
DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "smooth_l1": F.smooth_l1_loss,
    "mse": F.mse_loss,
}
