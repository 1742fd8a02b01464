"""Term: one loss, the only class a new method writes."""

from __future__ import annotations

from typing import ClassVar, Self

from torch import Tensor, nn

from edgekd.data import Batch
from edgekd.features import LOGITS, Features


class Term(nn.Module):
    """One loss. Subclass it in ``edgekd/methods/<name>.py`` and put the class in ``__all__``.

    A term never sees a network. The hooks beside ``forward`` do nothing unless a method overrides
    them; all are called by the trainer, in this order.
    """

    needs: frozenset[str] = LOGITS
    """Which features to show: of ``logits``, ``embedding``, ``stages``, ``preacts``, ``blocks``."""
    whole_batch: bool = False
    """Whether its loss of one image depends on the other images of the batch, as a distance between
    two of them does, or on what it remembers of them. Where several processes share a batch it is
    then shown all that they have (but for ``batch.image``, which stays a share)."""
    uses_teacher: ClassVar[bool] = True
    """Whether it looks at the teacher; a term that does not is what a student alone trains on."""
    study_share: float = 0.25
    """How long ``of_teacher`` studies, as a share of the student's own training."""
    study_lr: float = 0.05
    """The learning rate of that; SGD with momentum 0.9, a tenth after half, and of the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.of_teacher: nn.Module | None = None
        """What belongs to the teacher alone and is the same for every student; see ``study``."""

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        """Create adapters, once, from the features of one probe batch.

        Whoever studies creates ``of_teacher`` here, before all else, so that its first values do
        not depend on the student.

        Args:
            student: what the student shows.
            teacher: what the teacher shows.
            targets: (N,) classes of all training images; ``batch.index`` points into them.

        Raises:
            ValueError: this method cannot work with what these two networks show.
        """

    def study(self, teacher: Features, batch: Batch) -> Tensor:
        """The loss by which ``of_teacher`` learns from the teacher: a scalar.

        From a frozen teacher it learns before the training, is frozen then, and is kept for every
        later student of that teacher; from a peer, which learns itself, during the training.
        """
        raise NotImplementedError

    def excitation(self, teacher: Features) -> Tensor | None:
        """Logits (B, K) that the terms it wraps see in place of the teacher's own."""
        return None

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """Return the loss: a scalar, averaged over the batch.

        What ``of_teacher`` says is a target: ask it under ``torch.no_grad``.
        """
        raise NotImplementedError

    def constrain(self) -> None:
        """Put parameters back where they belong, after each optimiser step."""

    def no_weight_decay(self) -> set[str]:
        """Names of own parameters that must not decay, as timm's optimisers ask for them."""
        return set()

    def train(self, mode: bool = True) -> Self:
        """Switch the mode; what has studied stays as it is in evaluation."""
        super().train(mode)
        if self.of_teacher is not None and not _learns(self.of_teacher):
            self.of_teacher.eval()
        return self


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
