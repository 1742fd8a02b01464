"""Match the teacher's softened class probabilities.

Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531,
section 2.

    L = T^2 * KL( softmax(t/T) || softmax(s/T) ),  mean over the batch

The factor T^2 keeps the gradient's size independent of T. Two later papers change the logits:

``standardise``: Sun, Ren, Li, Wang & Cao, "Logit Standardization in Knowledge Distillation", CVPR
2024, arXiv:2403.01427. In both networks (z - mean(z)) / std(z) over the classes takes z's place,
so that the student need not be as sure of itself as the teacher. The authors take T = 2 and, beside
0.1 * ce, a weight of 9.

``label_temperature``: Li et al., "Asymmetric Temperature Scaling Makes Larger Networks Teach Well
Again", NeurIPS 2022, arXiv:2210.04427. The teacher's logit of the label is divided by a temperature
T' of its own, above T in the paper (4 and 2, for example), so that a teacher too sure of the label
says more about the other classes.

Deviations: with ``label_temperature`` the teacher's logits are centred first, without which adding
a constant to them would change the loss; the student is softened by T, where the authors take a
third temperature, usually 1; and the divergence differs from their soft cross-entropy by what does
not depend on the student. Logits of an image that deviate by less than 1e-4 from their mean, such
as those of a classifier that starts at 0, are standardised to 0 and send no gradient, as it would
be the larger the less they differ: another term, such as ce, has to set them apart first.
Of two classes ``standardise`` would leave nothing but which is likelier, and is refused.

Suits: any pair, the first to try; a teacher far larger: standardise, or a label temperature.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Term
from edgekd.methods._logits import check_standardisable, standardised

__all__ = ["KD"]


class KD(Term):
    """Hinton's distillation of logits.

    Args:
        temperature: softening of both distributions, above 0; at 1 they are left as they are.
        standardise: whether each image's logits are brought to mean 0 and deviation 1 first; takes
            3 classes or more.
        label_temperature: the teacher's softening of the label's logit; at 0 as of the others.
    """

    def __init__(
        self, temperature: float = 4.0, standardise: bool = False, label_temperature: float = 0.0
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        _check_variant(standardise, label_temperature)
        self.temperature, self.standardise = temperature, standardise
        self.label_temperature = label_temperature

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        if self.standardise:
            check_standardisable(student.logits)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        T = self.temperature
        s, t = self._variant(student.logits, teacher.logits, batch.target)  # (B, K)
        s = F.log_softmax(s / T, dim=1)
        t = F.log_softmax(t / T, dim=1)
        return T * T * F.kl_div(s, t, reduction="batchmean", log_target=True)

    def _variant(self, s: Tensor, t: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if self.standardise:
            return standardised(s), standardised(t)
        if self.label_temperature:
            factor = torch.ones_like(t)  # all logits are divided by T afterwards
            factor.scatter_(1, target[:, None], self.temperature / self.label_temperature)
            return s, factor * (t - t.mean(1, keepdim=True))
        return s, t


def _check_variant(standardise: bool, label_temperature: float) -> None:
    if not isinstance(standardise, bool):
        raise ValueError(f"standardise must be true or false, got {standardise!r}")
    if label_temperature < 0:
        raise ValueError(f"label_temperature must be above 0, or 0, got {label_temperature}")
    if standardise and label_temperature:
        raise ValueError(
            "standardise and label_temperature exclude each other, as both set how sure "
            "the teacher is of the label; choose one"
        )
