"""Match the teacher on the label and, weighed apart, on the other classes.

Zhao, Cui, Song, Qiu & Liang, "Decoupled Knowledge Distillation", CVPR 2022, arXiv:2203.08679.

    L = T^2 ( alpha KL(b_t || b_s) + beta KL(q_t || q_s) ),  mean over the batch

With p = softmax(z/T) and y the label, b = (p_y, 1 - p_y) and q is the softmax over the classes
other than y. Plain distillation is alpha = 1 and, in the place of beta, 1 - p_y of the teacher, so
the surer a teacher is, the less it says about the other classes.

The authors weigh it 1 beside a cross-entropy of 1, with beta = 8 on CIFAR-100 (6 or 2 for pairs
closer to each other) and 0.5 to 2, with T = 1, on ImageNet. On CIFAR their weight grows from 0 to 1
in the first 20 of 240 epochs; in a recipe: ``dkd = { weight = [0.0, 1.0], ramp = [0.0, 0.083] }``.

Deviations: log(1 - p_y) is a log-sum-exp where their code takes the logarithm of a sum that can
become 0, and the label is left out of q where that code subtracts 1000 from its logit.
``standardise`` is Sun et al.'s (see ``kd``, also for its deviations: logits that deviate by less
than 1e-4 become 0 and send no gradient); its authors take T = 2, alpha = 9 and beta = 72.

Suits: a strong teacher that is sure of its labels; students of another kind than the teacher.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Term
from edgekd.methods._logits import check_standardisable, standardised

__all__ = ["DKD"]


class DKD(Term):
    """Decoupled knowledge distillation.

    Args:
        alpha: the factor of what the teacher says about the label, 0 or above.
        beta: the factor of what it says about the other classes, 0 or above.
        temperature: softening of all distributions, above 0.
        standardise: whether each image's logits are brought to mean 0 and deviation 1 first; takes
            3 classes or more.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        if alpha < 0 or beta < 0 or alpha == beta == 0:
            raise ValueError(f"alpha and beta must be 0 or above, one above, got {alpha}, {beta}")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if not isinstance(standardise, bool):
            raise ValueError(f"standardise must be true or false, got {standardise!r}")
        self.alpha, self.beta = alpha, beta
        self.temperature, self.standardise = temperature, standardise

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        if self.standardise:
            check_standardisable(student.logits)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        T = self.temperature
        s, t = student.logits, teacher.logits  # (B, K)
        if self.standardise:
            s, t = standardised(s), standardised(t)
        label, others = (
            F.kl_div(of_student, of_teacher, reduction="batchmean", log_target=True)
            for of_student, of_teacher in zip(
                _decoupled(s / T, batch.target), _decoupled(t / T, batch.target), strict=True
            )
        )
        return T * T * (self.alpha * label + self.beta * others)


def _decoupled(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities: of the label and of all else (B, 2); of the other classes (B, K - 1)."""
    k = torch.arange(z.shape[1] - 1, device=z.device)
    others = z.gather(1, k + (k >= target[:, None]))  # the classes without the label
    both = torch.cat([z.gather(1, target[:, None]), others.logsumexp(1, keepdim=True)], dim=1)
    return F.log_softmax(both, dim=1), F.log_softmax(others, dim=1)
