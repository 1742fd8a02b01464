"""Order: all that an export is given beside the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgekd.data import Images
from edgekd.export._parity import Logits
from edgekd.recipe import Export
from edgekd.targets import Target

__all__ = ["Calibration", "Order"]


@dataclass(frozen=True)
class Calibration:
    """Training images that int8 takes its ranges from, decoded and never augmented."""

    images: Images
    names: tuple[str, ...]
    """Which they are, in order."""
    sha256: str
    """Of the names and the pixels."""
    held_out: Images
    """Other training images: on them it shows which way of calibrating agrees best."""


@dataclass(frozen=True)
class Order:
    """What to write, for whom, and the real images it is proved on."""

    options: Export
    images: Images
    """Validation images, of the size the network takes. They accept or refuse; as several files may
    be tried on them, each further one has to be better by more, see ``_verdict.judge``."""
    calibration: Calibration | None = None
    """Wanted for int8."""
    target: Target = field(default_factory=Target)
    answers: Logits | None = None
    """Logits (N, K) of the float student on ``images``, where the network is one tuned from it."""
    attempts: Sequence[Mapping[str, Any]] = ()
    """What was tried and refused on these images before, as the manifest holds it."""
    tuned_from: str = ""
    """sha256 of the float student, where the network is one tuned from it."""
    explain: bool = False
    """Look for where the error begins even if nothing is refused."""
    say: Callable[[str], None] = lambda text: None
    """Told what was decided, a line at a time."""
