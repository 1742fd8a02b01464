"""Plain: a convolutional network's graph in a tenth of the time, as the newer exporter has it.

PyTorch's newer exporter takes 2 to 9 s for a small network, its older one 0.1 to 0.8 s. What the
two write of plain convolutions differs in few places only: the average over a map, what flattens
it, shapes and halves of a tensor, and where constants stand. Here those are written as the newer
one does, so that a runtime is given the same graph. A network with anything else in it is left to
the newer one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from edgekd.errors import UsageError
from edgekd.export._exporters import dynamo, torchscript
from edgekd.export._opset import NATIVE
from edgekd.export.sketch.settling import settle
from edgekd.shortage import check_shortage

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

__all__ = ["OPERATORS", "quickest"]

OPERATORS = frozenset(
    (
        *("Conv", "BatchNormalization", "Gemm", "Add", "Mul", "Concat", "Cast", "Transpose"),
        *("Reshape", "Split"),
        *("Relu", "Clip", "HardSwish", "HardSigmoid", "Sigmoid"),
        *("MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "Flatten", "Constant"),
    )
)
"""What a graph of the older exporter may have, to be as good as the newer one's."""
NEWEST = 20
"""Opset that the older exporter ends at."""


def quickest(network: nn.Module, example: Tensor, name: str, file: Path, opset: int) -> None:
    """Write a graph by the older exporter where it is a plain one, else by the newer one.

    See :data:`edgekd.export._exporters.Exporter`.
    """
    if NATIVE <= opset <= NEWEST and _plain(network, example, name, file, opset):
        return
    dynamo(network, example, name, file, opset)


def _plain(network: nn.Module, example: Tensor, name: str, file: Path, opset: int) -> bool:
    import onnx
    from onnx import shape_inference

    try:
        torchscript(network, example, name, file, opset)
        model = onnx.load(file)
        settle(model)
        model = shape_inference.infer_shapes(model)
        as_newer(model)
    except Exception as error:  # whatever it is that it cannot write, the newer one has its turn
        check_shortage(error)
        return False
    onnx.save(model, file)
    return True


def as_newer(model: ModelProto) -> None:
    """Write a plain graph of the older exporter as the newer one does, in place.

    Args:
        model: with the shapes of its values.

    Raises:
        UsageError: there is more in it than :data:`OPERATORS`.
    """
    graph = model.graph
    other = sorted({node.op_type for node in graph.node} - OPERATORS)
    if other:
        raise UsageError(f"its graph has {', '.join(other)}; expected plain convolutions.")
    shapes = _shapes(graph)
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant":
            (value,) = node.attribute
            value.t.name = node.output[0]
            graph.initializer.append(value.t)
        else:
            nodes.append(_rewritten(graph, node, shapes))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


def _rewritten(graph: GraphProto, node: NodeProto, shapes: dict[str, list[int]]) -> NodeProto:
    from onnx import helper

    if node.op_type == "GlobalAveragePool":
        axes = _constant(graph, f"{node.output[0]}.axes", [-1, -2])
        return helper.make_node(
            "ReduceMean", [node.input[0], axes], node.output, node.name, keepdims=1
        )
    if node.op_type == "Reshape":
        fixed = helper.make_node("Reshape", node.input, node.output, node.name, allowzero=1)
        if 0 in _ints(graph, node.input[1]):
            raise UsageError("a Reshape in its graph keeps a side; expected all of them written.")
        return fixed
    if node.op_type == "Flatten":
        inner = shapes.get(node.input[0], [0])[1:]
        if not inner or min(inner) < 1:
            raise UsageError(f"the shape of {node.input[0]}, which is flattened, is not known.")
        shape = _constant(graph, f"{node.output[0]}.shape", [-1, int(np.prod(inner))])
        return helper.make_node(
            "Reshape", [node.input[0], shape], node.output, node.name, allowzero=1
        )
    return node


def _ints(graph: GraphProto, name: str) -> list[int]:
    from onnx import numpy_helper

    found = next((tensor for tensor in graph.initializer if tensor.name == name), None)
    if found is None:
        raise UsageError(f"the shape {name} is computed; expected a constant.")
    return [int(side) for side in numpy_helper.to_array(found).reshape(-1)]


def _constant(graph: GraphProto, name: str, values: list[int]) -> str:
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def _shapes(graph: GraphProto) -> dict[str, list[int]]:
    """Shape of each value; 0 for a side that is not fixed, such as the batch."""
    return {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in graph.value_info
    }
