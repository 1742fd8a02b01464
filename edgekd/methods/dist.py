"""Match how classes and images relate, not each probability: correlations.

Huang, You, Wang, Qian & Xu, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022,
arXiv:2205.10536.

    L = T^2 ( beta (1 - mean_i rho(P_i:, Q_i:)) + gamma (1 - mean_k rho(P_:k, Q_:k)) )

P = softmax(s/T) and Q = softmax(t/T) are the batch's probabilities, (B, K), and rho is Pearson's
correlation: over the classes of an image, and over the images of a class. It asks less than equal
probabilities, which a far better teacher puts out of reach.

The authors weigh it 2 beside a cross-entropy of 1, with T = 4 on CIFAR-100 and 1 on ImageNet.

Deviations: the authors' code adds 1e-8 to the product of the two lengths that rho divides by. Here
nothing is added, so that a student equal to its teacher has a loss of 0; where one of the lengths,
of an image's or a class's probabilities around their mean, is below 1e-4, rho is 0 and sends no
gradient, as it would be the larger the less they vary: another term, such as ce, has to set those
of a classifier that starts at 0 apart first. Of two classes an image's rho is 1 or -1 whatever the
student does, so that gamma's part alone teaches; with gamma = 0 they are refused.

Suits: a strong teacher, far larger or far longer trained than its student.
"""

from __future__ import annotations

from torch import Tensor

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Term
from edgekd.methods._logits import relations

__all__ = ["DIST"]


class DIST(Term):
    """Distillation from a stronger teacher.

    Args:
        beta: the factor of the relations between the classes of an image, 0 or above; says nothing
            of two classes.
        gamma: the factor of the relations between the images of a class, 0 or above.
        temperature: softening of both distributions, above 0.
    """

    def __init__(self, beta: float = 1.0, gamma: float = 1.0, temperature: float = 4.0) -> None:
        super().__init__()
        if beta < 0 or gamma < 0 or beta == gamma == 0:
            raise ValueError(f"beta and gamma must be 0 or above, one above, got {beta}, {gamma}")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.beta, self.gamma, self.temperature = beta, gamma, temperature
        self.whole_batch = gamma > 0

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        classes = student.logits.shape[1]
        if classes < 3 and self.gamma == 0:
            raise ValueError(
                f"gamma = 0 leaves the relations between {classes} classes, which say nothing: "
                "expected 3 classes or more; take a gamma above 0"
            )

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        rows, columns = relations(student.logits, teacher.logits, self.temperature)
        return self.beta * rows + self.gamma * columns
