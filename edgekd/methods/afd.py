"""Let attention pair the student's maps with the teacher's.

Ji, Heo & Park, "Show, Attend and Distill: Knowledge Distillation via Attention-based Feature
Matching", AAAI 2021, arXiv:2102.02973.

    l_ts = ( <u_s, q_t> + <place_s, place_t> ) / sqrt(dim),   u, q learned from the pooled maps
    a_ts = softmax over s of l_ts
    D_ts = mean over places of ( Q(S_s) - Q(T_t) )^2,   Q(F) = vec( mean_c F_c^2 ) to length 1
    L    = sum_t sum_s a_ts D_ts,   mean over the batch;   s, t count the blocks' outputs

The student's maps are brought to the size of the teacher's.

Deviations: as in the authors' code, without the parameters that cannot change the loss there: the
biases in front of a batch norm, and those of the u_s, which the softmax does not see. Of more than
32 maps every second takes part, as the authors take of ResNet-110; maps of one place are left out.

Suits: students with room to spare, as every block of the teacher is distilled into them.
"""

from __future__ import annotations

from torch import Tensor

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Term
from edgekd.methods._attention import Similarity, Size, block_maps, distances, energies

__all__ = ["AFD"]


class AFD(Term):
    """Attention-based feature distillation; the authors' weight is 200.

    PaddleClas, not the authors, takes 50 for ImageNet.

    Args:
        dim: how long queries and keys are.
    """

    needs = frozenset({"blocks"})

    def __init__(self, dim: int = 128) -> None:
        super().__init__()
        if not isinstance(dim, int) or dim < 1:
            raise ValueError(f"dim must be a whole number of 1 or more, got {dim}")
        self.dim = dim

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        s, t = block_maps(student), block_maps(teacher)
        self.similarity = Similarity(s, t, self.dim, bilinear=True)
        # the same for all of the student's maps, so the softmax over them takes it out
        self.similarity.norm.register_parameter("bias", None)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        s, t = block_maps(student), block_maps(teacher)
        a: Tensor = self.similarity(s, t).softmax(1)  # (B, Ns, Nt)
        D = distances(energies(s), energies(t), as_the_teacher, mean=True)
        return (a * D).sum((1, 2)).mean()


def as_the_teacher(student: Size, teacher: Size) -> Size:
    return teacher
