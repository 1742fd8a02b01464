"""What an explanation consists of, and how large an error is large in which precision."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgekd.export._parity import CAP_DB

__all__ = ["CEILING_DB", "LEAST_DB", "Explanation", "Spot", "Stage", "kind_of"]

LEAST_DB = {"fp32": 90.0, "fp16": 40.0, "int8": 15.0}
"""Signal to noise from which on an error is not large. float32 is where a faithful export ends (see
:mod:`edgekd.export._parity`); fp16 files of healthy networks have 50 to 75 dB at their logits, int8
ones 20 to 40."""
CEILING_DB = {"fp32": 130.0, "fp16": 70.0, "int8": 40.0}
"""What rounding once leaves, so that no node is blamed for being the first to round. Half floats
have 11 bits: 6 dB each and a few for the mantissa's spread. Of 256 steps over a range of 8 standard
deviations each is s = sigma / 32 wide, and its error s / sqrt(12): 41 dB."""
PREPROCESS, EXPORT, RUNTIME = "preprocess", "export", "runtime"


@dataclass(frozen=True)
class Stage:
    """A step on the way from the network to the file."""

    name: str
    """``preprocess``, ``export``, ``fp16``, ``int8`` or ``runtime``."""
    compared: str
    """What with what."""
    snr_db: float | None
    """None where there was nothing to compare."""
    least_db: float
    passed: bool
    note: str = ""


@dataclass(frozen=True)
class Spot:
    """A node of the file, and the error before and behind it."""

    stage: str
    op: str
    node: str
    tensor: str
    """Its output."""
    before_db: float
    """Signal to noise of its worst input, at most what rounding once leaves."""
    snr_db: float
    """Of its output, as the next node reads it."""
    reason: str = ""

    @property
    def added_db(self) -> float:
        """What the node loses."""
        return self.before_db - self.snr_db

    @property
    def words(self) -> str:
        """``Conv 'node_conv2d_17' (int8): 31 dB before, 4 dB after``."""
        where = f"{self.op} {self.node!r} ({self.stage})" if self.node else f"the {self.stage}"
        after = f"{self.snr_db:.0f} dB" if self.snr_db > -CAP_DB else "nothing right"
        return f"{where}: {self.before_db:.0f} dB before, {after} after"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"added_db": self.added_db}


@dataclass(frozen=True)
class Explanation:
    """Where on the way from a network to its file the first large error is."""

    images: int
    stages: tuple[Stage, ...]
    worst: tuple[Spot, ...]
    """The nodes that lose most, the worst first."""
    first: Spot | None
    """The first large error; none if the file is as good as its precision allows."""
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "images": self.images,
            "stages": [asdict(stage) for stage in self.stages],
            "worst": [spot.to_dict() for spot in self.worst],
            "first": self.first.to_dict() if self.first else None,
            "sentence": self.sentence,
        }


def kind_of(precision: str) -> str:
    """The lowest precision in a file, which decides how good it can be: int8 of ``fp32+int8``."""
    found = precision.split("+")
    return next((kind for kind in ("int8", "fp16") if kind in found), "fp32")
