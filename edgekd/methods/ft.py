"""Match compact factors of the last map, not the map itself.

Kim, Park & Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS
2018, arXiv:1802.04977.

    F_t = paraphraser(A_t),  F_s = translator(A_s),  n(F) = vec(F) / ||vec(F)||
    L   = 500 sqrt(N / 2048) * mean | n(F_s) - n(F_t) |,  mean over the batch and the N elements

The paraphraser, three convolutions, first learns with three transposed ones to rebuild the
teacher's map from a factor of fewer channels. The translator, three convolutions on the student's
map, learns together with the student. For a map of 2048 channels the paraphraser and what rebuilds
the map from its factor have 132 million parameters.

The authors' beta = 500 multiplies the mean itself; their factors on CIFAR have N = 32x8x8 = 2048
elements, where it is a weight of 1 here. Since the mean shrinks as N grows, the factor above makes
1 as strong for factors of any size: L is between 0 and 22. With ``scale = "paper"`` L is the plain
mean, and 500 is 500.

Deviations: the equations' norms are the authors' code's: the mean absolute error, both for the
paraphraser and for L (``reconstruction`` knows the squared one). The teacher's map is divided by
its root mean square, measured once on a few images, before it is encoded, and the error is that of
the divided map; its learning rate is half the authors' 0.1, with which large maps, or maps far from
0 on average, made the paraphraser diverge. The squared error, whose gradient has no bound, is
learned at 0.01. Where the maps differ in size, the larger factor is averaged down to the smaller,
so that one paraphraser serves every student.

Suits: convolutional pairs of unlike design, whose maps should not be matched value by value.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekd.data import Batch
from edgekd.features import Features, pair_stages, same_size
from edgekd.methods import Term
from edgekd.methods._factor import (
    CHOICES,
    AutoEncoder,
    check_choices,
    check_share,
    factor_distance,
    three_layers,
)

__all__ = ["FT"]

USUAL = 500.0
RATES = {"l1": 0.05, "l2": 0.01}
"""What the paraphraser learns at."""


class FT(Term):
    """Factor transfer.

    Args:
        rate: channels of a factor as a share of the teacher's, above 0 and at most 1.
        scale: "dimfree" for the loss above, "paper" for the mean without the factor before it.
        reconstruction: what the paraphraser learns by, "l1" or "l2".
        study_share: how long it studies the teacher, as a share of the student's training in
            (0, 1]; the authors took 5 epochs for 164.
    """

    needs = frozenset({"stages"})
    of_teacher: AutoEncoder

    def __init__(
        self,
        rate: float = 0.5,
        scale: str = "dimfree",
        reconstruction: str = "l1",
        study_share: float = 5 / 164,
    ) -> None:
        super().__init__()
        if not 0 < rate <= 1:
            raise ValueError(f"rate must be above 0 and at most 1, got {rate}")
        check_choices(CHOICES, scale=scale, reconstruction=reconstruction)
        check_share(study_share)
        self.rate, self.scale, self.reconstruction = rate, scale, reconstruction
        self.study_share, self.study_lr = study_share, RATES[reconstruction]

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        student_map, teacher_map = pair_stages(student, teacher)[-1]
        s, t = student_map.shape[1], teacher_map.shape[1]
        factor = max(1, int(t * self.rate))
        paraphraser = three_layers(t, factor, _convolution)
        back = three_layers(factor, t, _transposed)
        self.of_teacher = AutoEncoder(teacher_map, paraphraser, back, self.reconstruction)
        self.translator = three_layers(s, factor, _convolution)

    def study(self, teacher: Features, batch: Batch) -> Tensor:
        return self.of_teacher.study(teacher.stages[-1])

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        with torch.no_grad():
            wanted = self.of_teacher(teacher.stages[-1])
        found, wanted = same_size(self.translator(student.stages[-1]), wanted)
        return factor_distance(found, wanted, self.scale, USUAL)


def _convolution(given: int, out: int) -> list[nn.Module]:
    return [nn.Conv2d(given, out, kernel_size=3, padding=1)]


def _transposed(given: int, out: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(given, out, kernel_size=3, padding=1)]
