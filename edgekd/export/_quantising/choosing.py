"""Choosing what of a float graph is quantised, and which layer it belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

from edgekd.export._clips import bounds_by_node
from edgekd.export._quantising.flavours import WEIGHTED, Flavour

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = ["chosen_nodes", "layers_of", "name_nodes"]

ENTRANCE = ("Cast", "Transpose", "Mul", "Add", "Sub", "Div")
"""The normalisation in front of a network is made of these."""
GATES = ("Sigmoid", "HardSigmoid")
STREAMS = ("LayerNormalization", "Sub")
"""What reads the residual stream of a transformer; older opsets write the norm as Sub and so on."""


def chosen_nodes(graph: GraphProto, flavour: Flavour) -> list[NodeProto]:
    """The nodes to quantise."""
    skipped = _entrance(graph) | _unrewarded(graph) | _grouped(graph) | _far_clips(graph)
    if flavour.outputs:
        skipped |= _before_softmax(graph)
    chosen = [node for node in graph.node if node.op_type in flavour.operators]
    return [node for node in chosen if node.name not in skipped]


def name_nodes(graph: GraphProto) -> None:
    """Nodes are told apart by their names, which exporters may leave out or use twice."""
    counts = Counter(node.name for node in graph.node)
    for i, node in enumerate(graph.node):
        if not node.name or counts[node.name] > 1:
            node.name = f"{node.op_type}_{i}"


def _entrance(graph: GraphProto) -> set[str]:
    """The nodes from uint8 pixels to the normalised image.

    With a float input there are none: the caller normalises.
    """
    from onnx import TensorProto

    reached = {
        entry.name for entry in graph.input if entry.type.tensor_type.elem_type == TensorProto.UINT8
    }
    found = set()
    for node in graph.node:
        if node.op_type in ENTRANCE and reached & set(node.input):
            found.add(node.name)
            reached |= set(node.output)
    return found


def _unrewarded(graph: GraphProto) -> set[str]:
    """Sums and products that int8 would only round.

    A sum of two branches is worth it where convolutions read it, a sum with a constant is not. The
    residual stream of a transformer goes into norms, which stay float, and has the outliers that
    int8 serves worst. Of products, those with a gate between 0 and 1 are worth it.
    """
    constants = {tensor.name for tensor in graph.initializer}
    readers, gates = _readers(graph), _outputs(graph, GATES)
    found = set()
    for node in graph.node:
        if node.op_type == "Add":
            streams = any(r.op_type in STREAMS for r in readers[node.output[0]])
            if streams or constants & set(node.input):
                found.add(node.name)
        elif node.op_type == "Mul" and not gates & set(node.input):
            found.add(node.name)
    return found


def _before_softmax(graph: GraphProto) -> set[str]:
    """Nodes whose result would come to a Softmax as int8, and leave it as int8.

    ONNX Runtime 1.31 computes that with a kernel of its own, which answers right only where the
    result is spread over 0 to 1: deit_tiny had 25 dB without it and -3 dB with it. A Softmax over a
    hundred tokens gives hundredths, so that spread would be as bad.
    """
    fed = {node.input[0] for node in graph.node if node.op_type == "Softmax"}
    return {node.name for node in graph.node if fed & set(node.output)}


def _grouped(graph: GraphProto) -> set[str]:
    """Transposed convolutions in groups: each has as many scales as a group has channels.

    ONNX Runtime's quantiser (1.31) fails at their biases, which have a scale per channel.
    """
    return {
        node.name
        for node in graph.node
        if node.op_type == "ConvTranspose"
        and any(a.name == "group" and a.i > 1 for a in node.attribute)
    }


def _far_clips(graph: GraphProto) -> set[str]:
    """Clips whose bounds do not have zero between them, or are not known.

    ONNX Runtime's quantiser takes out each clip and leaves its work to the range of the integers.
    That range always has zero in it, so of Clip(0.1, 2) it would make Clip(0, 2).
    """
    bounds = bounds_by_node(graph)
    return {
        node.name
        for node in graph.node
        for limits in [bounds.get(node.output[0], (0.0, 0.0))]
        if limits is None or not limits[0] <= 0 <= limits[1]
    }


def _outputs(graph: GraphProto, operators: Collection[str]) -> set[str]:
    return {name for node in graph.node if node.op_type in operators for name in node.output}


def _readers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.output:
            found.setdefault(name, [])
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def layers_of(graph: GraphProto, chosen: list[NodeProto]) -> dict[str, tuple[str, ...]]:
    """Group what is quantised by layers: a weighted node and what is done to its result.

    Weighted nodes with one weight are one layer: it is stored once, as integers or as floats.
    """
    wanted = {node.name for node in chosen}
    constants = {tensor.name for tensor in graph.initializer}
    layer_of: dict[str, str] = {}  # tensor to layer
    users: dict[str, str] = {}  # weight to layer
    found: dict[str, list[str]] = {}
    for node in graph.node:
        above = [layer_of[name] for name in node.input if name in layer_of]
        layer = above[0] if above else ""
        if node.op_type in WEIGHTED and node.name in wanted:
            layer = _label(node, constants)
            layer = node.name if layer in found else layer
            if node.input[1] in constants:
                layer = users.setdefault(node.input[1], layer)
        layer_of |= dict.fromkeys(node.output, layer)
        if node.name in wanted:
            found.setdefault(layer, []).append(node.name)
    found.pop("", None)  # what comes before every layer
    return {layer: tuple(nodes) for layer, nodes in found.items()}


def _label(node: NodeProto, constants: set[str]) -> str:
    """What a layer is called in the network, where its weight still has that name."""
    weight: str = node.input[1]
    if weight not in constants or "." not in weight:
        return node.name
    return weight.removeprefix("network.").removesuffix(".weight")
