"""Releases of TensorRT: which ONNX graph each one reads rightly.

TensorRT 8 must never be given opset 18: its parser overlooks the axes of a reduction where they are
an input, and reduces over all of them, the batch included, without a word (onnx-tensorrt,
``reduceTensor`` of release/8.5-GA and 8.6-GA). 8.5 has no LayerNormalization, which opset 17
introduces, so it gets 16, where that is written out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgekd.errors import DeviceError
from edgekd.targets import Target

__all__ = ["Release", "release_of"]

OLDEST = (8, 5)
READS = (  # from this release on: opset to write, highest opset read, Q/DQ flavour
    ((8, 5), 16, 17, "tensorrt8"),
    ((8, 6), 17, 17, "tensorrt8"),
    ((10, 0), 18, 20, "tensorrt"),
    ((10, 9), 18, 22, "tensorrt"),
    ((10, 13), 18, 24, "tensorrt"),
)
"""onnx-tensorrt, docs/operators.md of each release."""
LOWEST = 13  # Q/DQ for each channel


@dataclass(frozen=True)
class Release:
    """A release of TensorRT, and what it is given."""

    version: str
    opset: int
    newest: int
    """The highest opset it reads rightly."""
    flavour: str

    @property
    def typed(self) -> bool:
        """Whether networks can be strongly typed: precision is then in the graph."""
        return self.flavour == "tensorrt"

    def target(self, asked: Target) -> Target:
        """What is asked for, as this release takes it."""
        opset = asked.opset if asked.opset <= self.opset else self.opset
        return replace(
            asked,
            runtime="trt",
            opset=opset,
            opsets=(LOWEST, self.newest),
            flavour=self.flavour,
        )


def release_of(version: str) -> Release:
    """The release of a version such as ``10.3.0`` or ``8.5.2.2``.

    Raises:
        DeviceError: it is too old.
    """
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    fitting = [row for row in READS if row[0] <= numbers]
    if not fitting:
        raise DeviceError(
            f"TensorRT {version} is too old; expected {'.'.join(map(str, OLDEST))} or newer, which "
            "JetPack 5 has. Update it, or export with --onnx."
        )
    _, opset, newest, flavour = fitting[-1]
    return Release(version, opset, newest, flavour)
