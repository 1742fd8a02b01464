"""Match the labels: cross-entropy, with optional smoothing.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
arXiv:1512.00567, section 7, for the smoothing.

    L = - sum_k q_k log softmax(s)_k,   q_k = (1 - e) [k = label] + e / K,   mean over the batch

Suits: every student; alone it is what a student learns without a teacher.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Term

__all__ = ["CE"]


class CE(Term):
    """Cross-entropy with the labels.

    Args:
        smoothing: the share e of each label that is spread over all classes, in [0, 1).
    """

    uses_teacher = False

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1), got {smoothing}")
        self.smoothing = smoothing

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return F.cross_entropy(student.logits, batch.target, label_smoothing=self.smoothing)
