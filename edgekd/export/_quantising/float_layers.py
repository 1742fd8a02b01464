"""Layers in float between int8 ones, written so that ONNX Runtime leaves them in float.

Its optimiser WeightBiasQuantization (since 1.21) takes a convolution that reads int8 and has float
weights for one that was forgotten, and quantises the weights while it loads the file, with one
scale for all channels. A layer that int8 serves worst of all would be made worse than it was. It
only does so where the scale of what is read is a scalar; so here every channel has that scale.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from edgekd.export._quantising.flavours import WEIGHTED

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

__all__ = ["keep_in_float", "taken_along"]


def keep_in_float(model: ModelProto, names: Collection[str]) -> None:
    """Let the nodes of these names read int8 by a scale per channel, in place."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in [n for n in graph.node if n.name in names and n.op_type in WEIGHTED]:
        reads = makers.get(node.input[0])
        weight = constants.get(node.input[1]) if len(node.input) > 1 else None
        channels = _channels(node, weight) if weight is not None else 0
        if channels and reads is not None and reads.op_type == "DequantizeLinear":
            node.input[0] = _by_channel(graph, reads, constants, channels)
    _drop_unread(graph)


def taken_along(model: ModelProto, names: Collection[str]) -> list[str]:
    """Clauses on nodes of these names that read a weight in int8 all the same."""
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name for tensor in model.graph.initializer}
    found = []
    for node in (n for n in model.graph.node if n.name in names and n.op_type in WEIGHTED):
        source = node.input[1]
        while source in makers and makers[source].op_type in ("QuantizeLinear", "DequantizeLinear"):
            source = makers[source].input[0]
        if source != node.input[1] and source in constants:
            found.append(f"{node.name} is to stay in float, and its weight {source} is in int8")
    return found


def _channels(node: NodeProto, weight: TensorProto) -> int:
    """Input channels of a layer that the optimiser would take; 0 of any other."""
    if node.op_type == "Conv":
        return int(weight.dims[1]) * next((a.i for a in node.attribute if a.name == "group"), 1)
    if node.op_type == "ConvTranspose":
        return int(weight.dims[0])
    if node.op_type == "Gemm":
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        return int(weight.dims[1 if turned else 0])
    return 0


def _by_channel(
    graph: GraphProto, reads: NodeProto, constants: dict[str, TensorProto], channels: int
) -> str:
    """A second dequantiser beside ``reads``, on axis 1; the name of its output."""
    from onnx import helper, numpy_helper

    made = f"{reads.output[0]}_by_channel"
    if any(made in node.output for node in graph.node):
        return made
    names = []
    for name in reads.input[1:3]:
        values = np.repeat(numpy_helper.to_array(constants[name]).reshape(1), channels)
        names.append(f"{name}_by_channel")
        if names[-1] not in {tensor.name for tensor in graph.initializer}:
            graph.initializer.append(numpy_helper.from_array(values, names[-1]))
    node = helper.make_node(
        "DequantizeLinear", [reads.input[0], *names], [made], f"{reads.name}_by_channel", axis=1
    )
    graph.node.insert(list(graph.node).index(reads), node)
    return made


def _drop_unread(graph: GraphProto) -> None:
    """Remove dequantisers that nothing reads any more."""
    read = {name for node in graph.node for name in node.input}
    read |= {entry.name for entry in graph.output}
    for node in [n for n in graph.node if n.op_type == "DequantizeLinear"]:
        if node.output[0] not in read:
            graph.node.remove(node)
