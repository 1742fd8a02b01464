"""A small network of mobile kind as an ONNX file: about 2 ms a run, and operators to slow it by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

STAGES = ((56, 2), (112, 1), (112, 2), (160, 1), (160, 2), (224, 1), (224, 1), (224, 2), (320, 1))
"""Channels and stride of each pair of a depthwise and a pointwise convolution, after the stem."""
STEM, CLASSES = 32, 10
EXTRA_AFTER = 4
"""An extra operator: a depthwise convolution of 160 channels on the map of the fifth stage, which
costs a small share of a percent."""


def mobile(path: Path, side: int = 224, extra: int = 0, name: str = "mobile") -> Path:
    """Write the network: float32 (1, 3, side, side) in, logits out.

    Args:
        path: where.
        side: of the picture.
        extra: operators to add to it.
        name: of the graph; another name is another file, with another hash, of the same network.
    """
    graph = _Graph(np.random.default_rng(0))
    graph.convolve(3, STEM, 3, stride=2)
    channels = STEM
    for index, (width, stride) in enumerate(STAGES):
        graph.convolve(channels, channels, 3, stride, groups=channels)
        graph.convolve(channels, width, 1)
        channels = width
        for _ in range(extra * (index == EXTRA_AFTER)):
            graph.convolve(channels, channels, 3, groups=channels)
    logits = graph.classify(channels)
    made = helper.make_graph(
        graph.nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info(logits, TensorProto.FLOAT, [1, CLASSES])],
        graph.weights,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (("mean", 0.5), ("std", 0.25)):
        model.metadata_props.add(key=f"edgekd.{key}", value=json.dumps([value] * 3))
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


class _Graph:
    """A chain of operators as it grows."""

    def __init__(self, draw: np.random.Generator) -> None:
        self._draw, self._last = draw, "x"
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def convolve(
        self, channels: int, width: int, side: int, stride: int = 1, groups: int = 1
    ) -> None:
        """A convolution and a ReLU; the weights keep the size of what flows through."""
        deviation = (2 / (channels // groups * side * side)) ** 0.5
        values = self._draw.normal(0, deviation, (width, channels // groups, side, side))
        self._add(
            "Conv", values, kernel_shape=[side, side], pads=[side // 2] * 4,
            strides=[stride, stride], group=groups,
        )  # fmt: skip
        self._add("Relu")

    def classify(self, channels: int) -> str:
        """Mean over the map, then one matrix; the name of the logits."""
        self._add("GlobalAveragePool")
        self._add("Flatten")
        self._add("MatMul", self._draw.normal(0, channels**-0.5, (channels, CLASSES)))
        return self._last

    def _add(self, kind: str, values: NDArray[np.float64] | None = None, **attributes: Any) -> None:
        name = f"{kind.lower()}{len(self.nodes)}"
        inputs = [self._last]
        if values is not None:
            self.weights.append(numpy_helper.from_array(values.astype(np.float32), f"{name}.w"))
            inputs.append(f"{name}.w")
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        self._last = name
