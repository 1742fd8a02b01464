"""Logits: how to standardise them, and distances between two networks' of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SILENT = 1e-4
"""Numbers that spread less than this are taken for equal: what divides by their spread has a
gradient that grows beyond all bounds as they become equal, as at a classifier that starts at 0."""


def standardised(logits: Tensor) -> Tensor:
    """Logits (B, K) of mean 0 and standard deviation 1 for each image, over the classes.

    Sun, Ren, Li, Wang & Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024,
    arXiv:2403.01427. An image whose logits hardly differ gets zeros, which send no gradient.
    """
    centred, deviation = logits - logits.mean(1, keepdim=True), logits.std(1, keepdim=True)
    equal = deviation < SILENT  # not where logits are NaN, which must be seen
    # no division by what is left out, or its gradient would be 0 * inf
    return torch.where(equal, 0.0, centred / torch.where(equal, 1.0, deviation + 1e-7))


def check_standardisable(logits: Tensor) -> None:
    """Raise ValueError where standardising leaves nothing but which of two logits is larger."""
    if logits.shape[1] < 3:
        raise ValueError(
            f"standardise got {logits.shape[1]} classes, and of two logits all that it leaves is "
            "which is larger: expected 3 classes or more; set standardise to false"
        )


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(t/T) || softmax(s/T)), mean over the batch."""
    s, t = (F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return temperature**2 * F.kl_div(s, t, reduction="batchmean", log_target=True)


def relations(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """T^2 (1 - Pearson's correlation) of the probabilities: of the rows, and of the columns."""
    p, q = ((logits / temperature).softmax(1) for logits in (student, teacher))  # (B, K)
    rows, columns = 1 - _correlation(p, q), 1 - _correlation(p.T, q.T)
    return temperature**2 * rows.mean(), temperature**2 * columns.mean()


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's, of each row of two matrices; 0, without a gradient, where one hardly varies."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    lengths = a.norm(dim=1), b.norm(dim=1)
    equal = torch.minimum(*lengths) < SILENT
    rho = (a * b).sum(1) / torch.where(equal, 1.0, lengths[0] * lengths[1])
    return torch.where(equal, 0.0, rho)
