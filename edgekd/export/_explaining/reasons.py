"""Why a node loses so much: what its range cannot hold, or what half precision cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekd.export._clips import clipped
from edgekd.export._explaining.levels import level_db, within
from edgekd.export._explaining.stages import Spot
from edgekd.export._explaining.steps import Step, origins
from edgekd.export._explaining.tensors import Value, tensors

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["reason_for"]

HALF_MAX = float(np.finfo(np.float16).max)  # 65504
HALF_LEAST = float(np.finfo(np.float16).smallest_normal)  # 6.1e-5: below it bits get lost
CLIPPED = 0.01
"""Share of values outside the range from which on it explains an error. Percentiles leave out 0.01
to 0.1 % on purpose."""
OUTLIER = 4.0
"""The largest value over the 99.9th percentile. Of a normal distribution it is 1.5 at most here;
4 costs two of the eight bits."""
CHANNEL = 20.0
"""The largest channel over the median one: the others have 12 steps out of 256."""
WEIGHTS_DB = 20.0  # 8 bits a channel leave 30 to 40 dB

Range = tuple[float, float]


def reason_for(
    spot: Spot, step: Step, float_file: Path, feed: Any, model: ModelProto, pairs: Mapping[str, str]
) -> str:
    """Why a node of an int8 or fp16 file loses what it loses; nothing if no usual cause fits.

    Args:
        spot: what is known of the node.
        step: its place in the graph.
        float_file: holds the right values.
        feed: a few images, as that file takes them.
        model: the reduced file's.
        pairs: value of the float file by value of the reduced one.
    """
    import onnx

    origin = origins(model)
    inputs = [pairs.get(origin[name], "") for name in step.inputs]
    names = [name for name in (pairs.get(step.value, ""), *inputs) if name]
    right = tensors(float_file, feed, dict.fromkeys(names))
    ends = clipped(onnx.load(float_file, load_external_data=False).graph)
    right = {name: within(value, ends.get(name)) for name, value in right.items()}
    named = [("its output", pairs.get(step.value, ""), step.ends)]
    named += [("its input", i, (n,)) for i, n in zip(inputs, step.inputs, strict=True)]
    values = [(words, right[name], ends) for words, name, ends in named if name in right]
    if spot.stage == "fp16":
        return next(filter(None, (_half(words, value) for words, value, _ in values)), "")
    ranges = _ranges(model)
    held = [(words, value, ranges[e]) for words, value, ends in values for e in ends if e in ranges]
    found = [_clipped(words, value, limits) for words, value, limits in held]
    found += [_weights(step, float_file, model)]
    found += [_outliers(words, value) for words, value, _ in held]
    return next(filter(None, found), "")


def _half(words: str, value: Value) -> str:
    size = np.abs(value[np.isfinite(value)])
    largest = float(size.max(initial=0.0))
    if largest > HALF_MAX:
        return f"{words} reaches {largest:.3g}, and half precision ends at {HALF_MAX:.0f}"
    small = float(((size > 0) & (size < HALF_LEAST)).mean())
    if small > 0.5:
        return (
            f"{small:.0%} of {words} is smaller than {HALF_LEAST:.1g}, where half precision "
            "loses bits"
        )
    return ""


def _clipped(words: str, value: Value, limits: Range) -> str:
    low, high = limits
    step = (high - low) / 255
    outside = float(((value < low - step) | (value > high + step)).mean())
    if outside < CLIPPED:
        return ""
    return (
        f"{outside:.0%} of {words} lies outside of what its scale holds: {low:.3g} to {high:.3g}, "
        f"and the values go from {value.min():.3g} to {value.max():.3g}"
    )


def _outliers(words: str, value: Value) -> str:
    """What makes the one step of a whole tensor coarse for most of it."""
    size = np.abs(value)
    if value.ndim == 4:
        channels = size.max(axis=(0, 2, 3))
        usual = float(np.median(channels))
        if usual > 0 and channels.max() > CHANNEL * usual:
            ratio = channels.max() / usual
            return f"{words} has one channel {ratio:.0f} times the others"
    usual = float(np.percentile(size, 99.9))
    if usual > 0 and size.max() > OUTLIER * usual:
        return (
            f"the largest value of {words} is {size.max() / usual:.0f} times its 99.9th percentile"
        )
    return ""


def _weights(step: Step, float_file: Path, model: ModelProto) -> str:
    """Weights that too few steps are left for."""
    import onnx
    from onnx import numpy_helper

    makers = {node.output[0]: node for node in model.graph.node if node.output}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    node = makers.get(step.value)
    quantised = makers.get(node.input[1]) if node and len(node.input) > 1 else None
    if quantised is None or quantised.op_type != "DequantizeLinear":
        return ""
    if not set(quantised.input) <= stored.keys():
        return ""
    integers, scale, *zero = (numpy_helper.to_array(stored[name]) for name in quantised.input)
    others = onnx.load(float_file, load_external_data=False).graph
    twin = next((n for n in others.node if n.name == step.node and len(n.input) > 1), None)
    weights = {tensor.name: tensor for tensor in others.initializer}
    if twin is None or twin.input[1] not in weights:
        return ""
    right = numpy_helper.to_array(weights[twin.input[1]], str(float_file.parent))
    axis = next((a.i for a in quantised.attribute if a.name == "axis"), 1)
    kept = _dequantised(integers, scale, zero[0] if zero else None, axis)
    if kept.shape != right.shape:
        return ""
    db = level_db(float(np.square(right).sum()), float(np.square(right - kept).sum()))
    return f"its weights keep only {db:.0f} dB" if db is not None and db < WEIGHTS_DB else ""


def _dequantised(
    integers: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any] | None, axis: int
) -> NDArray[np.float64]:
    shape = [1] * integers.ndim
    if scale.ndim and scale.size > 1:
        shape[axis] = scale.size
    centred = integers.astype(np.float64)
    if zero is not None:
        centred -= zero.astype(np.float64).reshape(shape if zero.size > 1 else [1])
    result: NDArray[np.float64] = centred * scale.astype(np.float64).reshape(shape)
    return result


def _ranges(model: ModelProto) -> dict[str, Range]:
    """The least and the largest number that each dequantised value can be."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    return dict(_each_range(model, lambda name: numpy_helper.to_array(stored[name]), stored))


def _each_range(
    model: ModelProto, read: Any, stored: Mapping[str, Any]
) -> Iterator[tuple[str, Range]]:
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or len(node.input) < 3:
            continue
        scale, zero = node.input[1:3]
        if scale not in stored or zero not in stored:
            continue
        step, offset = read(scale), read(zero)
        if step.size == 1 and offset.dtype in (np.uint8, np.int8):
            limits = np.iinfo(offset.dtype)
            low, high = (
                float((end - offset.item()) * step.item()) for end in (limits.min, limits.max)
            )
            yield node.output[0], (low, high)
