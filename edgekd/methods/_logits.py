"""Logits: how to standardise them, and distances between two networks' of them."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def standardised(logits: Tensor) -> Tensor:
    """Logits (B, K) of mean 0 and standard deviation 1 for each image, over the classes.

    Sun, Ren, Li, Wang & Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024,
    arXiv:2403.01427.
    """
    centred = logits - logits.mean(1, keepdim=True)
    return centred / (logits.std(1, keepdim=True) + 1e-7)


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
    """Pearson's, of each row of two matrices; towards 0 where they hardly vary."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    lengths: Tensor = a.norm(dim=1) * b.norm(dim=1)
    return (a * b).sum(1) / lengths.clamp(min=1e-8)
