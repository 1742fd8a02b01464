"""Match one of the teacher's maps through a learned regressor.

Romero, Ballas, Kahou, Chassang, Gatta & Bengio, "FitNets: Hints for Thin Deep Nets", ICLR 2015,
arXiv:1412.6550, equation 3.

    L = || r(A_s) - A_t ||^2,  mean over the batch and all elements

Deviations: trained together with the other terms instead of in a first phase of its own; the
factor 1/2 is left to the weight; the regressor r is a 1x1 convolution, and where the maps differ
in size the larger is averaged down to the smaller (the paper chooses the kernel to fit). A weight
of 1 is usual here: on ResNets for CIFAR its gradient is then about as large as cross-entropy's. The
100 found in the literature goes with a regressor that ends in a batch norm and a ReLU.

Suits: students that are thinner than their teacher, not much shallower.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features, pair_stages, same_size
from edgekd.methods import Term

__all__ = ["FitNet"]


class FitNet(Term):
    """Hint-based training.

    Args:
        stage: which pair of stages, counted as Python counts: -1 is the coarsest, -2 the one
            before it, which the paper's choice of a middle layer comes nearest to; networks that
            share one stage only take -1.
    """

    needs = frozenset({"stages"})

    def __init__(self, stage: int = -2) -> None:
        super().__init__()
        self.stage = stage

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        pairs = pair_stages(student, teacher)
        if not -len(pairs) <= self.stage < len(pairs):
            raise ValueError(
                f"stage {self.stage} of {len(pairs)}: expected one there is, such as -1"
            )
        s, t = pairs[self.stage]
        self.adapter = nn.Conv2d(s.shape[1], t.shape[1], kernel_size=1)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        s, t = pair_stages(student, teacher)[self.stage]
        return F.mse_loss(*same_size(self.adapter(s), t))
