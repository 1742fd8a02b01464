"""Match the teacher's softened class probabilities.

Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531,
section 2.

    L = T^2 * KL( softmax(t/T) || softmax(s/T) ),  mean over the batch

The factor T^2 keeps the gradient's size independent of T.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Term

__all__ = ["KD"]


class KD(Term):
    """Hinton's distillation of logits.

    Args:
        temperature: softening of both distributions, above 0; at 1 they are left as they are.
    """

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.temperature = temperature

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        T = self.temperature
        s = F.log_softmax(student.logits / T, dim=1)  # (B, K)
        t = F.log_softmax(teacher.logits / T, dim=1)  # (B, K)
        return T * T * F.kl_div(s, t, reduction="batchmean", log_target=True)
