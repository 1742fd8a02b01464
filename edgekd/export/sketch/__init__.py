"""Sketch: a network nobody trained, as the file its trained one would be, to be timed.

The weights are random, and everything else is the real thing: the same network, merged in the same
way, with the same preprocessing inside, written as the same graph for the same opset, and for int8
quantised in the same flavour. So a sketch takes as long as the trained network will. Nothing is
said of its accuracy: it has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekd.targets import Target

__all__ = ["Sketch", "quantised", "sketch"]


@dataclass(frozen=True)
class Sketch:
    """A file with random weights."""

    file: Path
    precision: str
    parameters: int
    """Of the network, as it is trained."""


def sketch(
    name: str, size: int, classes: int, folder: Path, target: Target, precision: str = "fp32"
) -> Sketch:
    """Write ``model.onnx`` of a network with random weights.

    Args:
        name: as ``edgekd.models.zoo.create`` takes it.
        size: side of the input in pixels.
        classes: outputs of the head.
        folder: for the file; made if it is not there.
        target: what the device takes: it decides the opset and how int8 is written.
        precision: ``fp32``, ``fp16`` or ``int8``.

    Raises:
        UnknownNameError: no such network.
        UsageError: it cannot take the size, no exporter can write it, or no such precision.
        GateError: what was written is not the network, or is constant.
    """
    from edgekd.export.sketch.drawing import draw

    file, drawn = draw(name, size, classes, folder, target, precision)
    return Sketch(file, precision, drawn.backbone.parameters)


def quantised(file: Path, size: int, folder: Path, target: Target) -> Path:
    """Write ``model.onnx`` in int8 from a float32 sketch: as :func:`sketch` does, in half the time.

    Args:
        file: a float32 sketch.
        size: side of its input in pixels.
        folder: for the new file; made if it is not there.
        target: decides how int8 is written.

    Raises:
        UsageError: there is nothing in it to quantise.
        GateError: the quantiser fails, or the network computes what is not finite.
    """
    from edgekd.export.sketch.drawing import draw_int8

    return draw_int8(file, size, folder, target)
