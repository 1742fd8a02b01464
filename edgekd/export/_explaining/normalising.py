"""Whether a file normalises its pixels as the network was trained, and if not, how it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekd.data import Pixels
from edgekd.export._explaining.stages import PREPROCESS, Spot, Stage
from edgekd.export._explaining.tensors import Shown
from edgekd.export._parity import Logits, snr_db
from edgekd.export._suspects import Images, diagnose, normalised
from edgekd.preprocess import Preprocess

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["check_preprocess"]

OPERATORS = (
    *("Cast", "Identity", "Transpose", "Mul", "Div", "Add", "Sub"),
    *("QuantizeLinear", "DequantizeLinear", "Slice", "Gather", "Reshape"),
)
"""What a normalisation is made of, and what channels are swapped with."""
LEAST_DB = {"fp32": 90.0, "fp16": 55.0, "int8": 25.0}
"""One rounding, not a network of them: half floats keep 66 dB of an image, 8 bits 45."""
SIZES = ("Shape", "Size")  # read how large it is, not what it is
EXPLAINS_DB = 25.0  # a wrong mean and std fit what they made up to its quantisation
COMPARED = "normalised images in the file with (pixel / 255 - mean) / std"


def check_preprocess(
    kind: str, shown: Shown, pixels: Pixels, preprocess: Preprocess
) -> tuple[Stage, Spot | None]:
    """Compare the normalised images inside a file with what the network was trained on.

    Args:
        kind: ``fp32``, ``fp16`` or ``int8``.
        shown: the file.
        pixels: (N, H, W, 3).
        preprocess: what the network expects.
    """
    least = LEAST_DB[kind]
    if not shown.baked:
        return _unseen("the file takes normalised images", least), None
    expected = normalised(pixels, preprocess)
    candidates = _candidates(shown, pixels, preprocess)
    levels = {
        name: snr_db(_flat(expected), _flat(found)) for name, (_, found) in candidates.items()
    }
    if not levels:
        return _unseen("the file holds no images (batch, 3, height, width)", least), None
    name = max(reversed(levels), key=levels.__getitem__)
    node, found = candidates[name]
    cause = "" if levels[name] >= least else _cause(found, pixels, preprocess)
    if levels[name] >= least or (kind == "int8" and not cause):
        note = "" if levels[name] >= least else "lost in its quantisation, not wrong"
        return Stage(PREPROCESS, COMPARED, levels[name], least, True, note), None
    stage = Stage(PREPROCESS, COMPARED, levels[name], least, False, cause)
    return stage, Spot(PREPROCESS, node.op_type, node.name, name, least, levels[name], cause)


def _unseen(note: str, least: float) -> Stage:
    return Stage(PREPROCESS, COMPARED, None, least, True, note)


def _candidates(
    shown: Shown, pixels: Pixels, preprocess: Preprocess
) -> dict[str, tuple[NodeProto, Images]]:
    """Values on the way from the pixels to the first weights that have an image's shape."""
    chain = _chain(shown.model, shown.entry)
    found: dict[str, list[Images]] = {name: [] for name, _ in chain}
    for values in shown.each(pixels, preprocess):
        for name in found.keys() & values.keys():
            found[name].append(values[name].astype(np.float32))
    height, width = preprocess.size
    return {
        name: (node, np.concatenate(found[name]))
        for name, node in chain
        if found[name] and found[name][0].shape[1:] == (3, height, width)
    }


def _chain(model: ModelProto, entry: str) -> list[tuple[str, NodeProto]]:
    """What is done to the input before anything else reads it, value by value."""
    nodes = [node for node in model.graph.node if node.op_type not in SIZES]
    readers = Counter(name for node in nodes for name in node.input)
    found, value = [], entry
    while readers[value] == 1:
        node = next(node for node in nodes if value in node.input)
        if node.op_type not in OPERATORS:
            break
        value = node.output[0]
        found.append((value, node))
    return found


def _cause(found: Images, pixels: Pixels, preprocess: Preprocess) -> str:
    """How the images were made that the file holds, if they can be made from the pixels at all."""
    if not np.isfinite(found).all():
        return "they are not finite"
    known = diagnose(_flat(found), _flat, pixels, preprocess)
    if known:
        return known
    layouts = {"": pixels, ", red and blue swapped": np.ascontiguousarray(pixels[..., ::-1])}
    for layout, seen in layouts.items():
        slope, offset = _fit(seen, found)
        if slope is None or (slope == 0).any():
            continue
        std, mean = 1 / (255 * slope), -offset / (255 * slope)
        return (
            f"it takes the mean {_rgb(mean)} and the std {_rgb(std)}{layout}; expected are "
            f"{_rgb(preprocess.mean)} and {_rgb(preprocess.std)}"
        )
    return ""


def _fit(pixels: Pixels, found: Images) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    """Slope and offset of each channel, by least squares; no slope if that is not what it is."""
    x = pixels.transpose(3, 0, 1, 2).reshape(3, -1).astype(np.float64)
    y = found.transpose(1, 0, 2, 3).reshape(3, -1).astype(np.float64)
    centred = x - x.mean(axis=1, keepdims=True)
    spread = np.square(centred).sum(axis=1)
    slope = (centred * y).sum(axis=1) / np.where(spread > 0, spread, 1)
    offset = y.mean(axis=1) - slope * x.mean(axis=1)
    fits = snr_db(y, slope[:, None] * x + offset[:, None]) >= EXPLAINS_DB
    return (slope if fits else None), offset


def _flat(images: Images) -> Logits:
    return images.reshape(len(images), -1)


def _rgb(values: Sequence[float] | NDArray[np.float64]) -> str:
    return f"({', '.join(f'{value:.3g}' for value in values)})"
