"""Values that only Relu and Clip read: what lies outside of the bounds never matters."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = ["CLIPS", "Clipped", "bounds_by_node", "clipped"]

CLIPS = ("Relu", "Clip")
Bounds = tuple[float, float]


@dataclass(frozen=True)
class Clipped:
    """What becomes of a value."""

    output: str
    """What the last clip makes of it."""
    low: float
    high: float


def bounds_by_node(graph: GraphProto) -> dict[str, Bounds | None]:
    """Bounds of each Relu and Clip, by its output; None where they are computed at run time."""
    scalars = _scalars(graph)
    return {node.output[0]: _bounds(node, scalars) for node in graph.node if node.op_type in CLIPS}


def clipped(graph: GraphProto) -> dict[str, Clipped]:
    """By value, the end of the clips that follow each other, where nothing else reads between."""
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(entry.name for entry in graph.output)
    bounds, found = bounds_by_node(graph), dict[str, Clipped]()
    for node in reversed(graph.node):
        limits = bounds.get(node.output[0]) if node.op_type in CLIPS else None
        if limits is None or readers[node.input[0]] != 1:
            continue
        end = found.get(node.output[0], Clipped(node.output[0], -math.inf, math.inf))
        low, high = (min(max(limit, end.low), end.high) for limit in limits)
        found[node.input[0]] = Clipped(end.output, low, high)
    return found


def _bounds(node: NodeProto, scalars: dict[str, float]) -> Bounds | None:
    if node.op_type == "Relu":
        return 0.0, math.inf
    low, high = (
        scalars.get(node.input[index]) if len(node.input) > index and node.input[index] else end
        for index, end in ((1, -math.inf), (2, math.inf))
    )
    return None if low is None or high is None else (low, high)


def _scalars(graph: GraphProto) -> dict[str, float]:
    """Constants of one number, as far as they are in the file itself."""
    from onnx import TensorProto, numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                tensors[node.output[0]] = attribute.t
    return {
        name: float(numpy_helper.to_array(tensor).item())
        for name, tensor in tensors.items()
        if math.prod(tensor.dims) == 1
        and tensor.data_location != TensorProto.EXTERNAL
        and tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    }
