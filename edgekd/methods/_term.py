"""Term: one loss, the only class a new method writes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor, nn

from edgekd.data import Batch
from edgekd.features import LOGITS, Features


class Term(nn.Module):
    """One loss. Subclass it in ``edgekd/methods/<name>.py`` and put the class in ``__all__``.

    A term never sees a network. The four hooks beside ``forward`` do nothing unless a method
    overrides them; all are called by the trainer, in this order.
    """

    needs: ClassVar[frozenset[str]] = LOGITS
    """Which features to show: of ``logits``, ``embedding``, ``stages``, ``blocks``."""
    uses_teacher: ClassVar[bool] = True
    """Whether it looks at the teacher; a term that does not is what a student alone trains on."""

    def build(self, student: Features, teacher: Features) -> None:
        """Create adapters, once, from the features of one probe batch."""

    def prepare(self, stream: Iterable[Features]) -> None:
        """Learn what belongs to the frozen teacher, once, from its features on training images."""

    def excitation(self, teacher: Features) -> Tensor | None:
        """Logits (B, K) that the *other* terms see in place of the teacher's own."""
        return None

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """Return the loss: a scalar, averaged over the batch."""
        raise NotImplementedError

    def constrain(self) -> None:
        """Put parameters back where they belong, after each optimiser step."""
