"""Settling: shapes that a graph of the older exporter computes, written down as what they are.

The older exporter asks a tensor for its sides at run time, which the newer one knows. So the graph
is run with two batches of different sizes: a shape that is the same in both is one for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekd.errors import UsageError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

__all__ = ["settle"]

SHAPED = ("Reshape", "Slice")
BATCHES = (2, 3)


def settle(model: ModelProto) -> None:
    """Make constants of computed shapes, and one Split of the two halves of a tensor, in place.

    Raises:
        UsageError: a shape depends on the number of images.
    """
    graph = model.graph
    given = {tensor.name for tensor in graph.initializer}
    given |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    shaped = [node for node in graph.node if node.op_type in SHAPED]
    wanted = sorted({name for node in shaped for name in node.input[1:] if name not in given})
    if wanted:
        _write_down(graph, dict(zip(wanted, _values(model, wanted), strict=True)))
    _split(graph)
    _drop_unread(graph)


def _values(model: ModelProto, names: list[str]) -> list[Any]:
    """What tensors hold, whatever the images are."""
    import onnx
    import onnxruntime

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    kind = onnx.TensorProto.INT64
    shown.graph.output.extend(onnx.helper.make_tensor_value_info(n, kind, None) for n in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    entry = session.get_inputs()[0]
    dtype = np.uint8 if entry.type == "tensor(uint8)" else np.float32
    feeds = ({entry.name: np.zeros((batch, *entry.shape[1:]), dtype)} for batch in BATCHES)
    first, second = (session.run(names, feed) for feed in feeds)
    if not all(map(np.array_equal, first, second)):
        raise UsageError("a shape in its graph depends on the number of images.")
    return list(first)


def _write_down(graph: GraphProto, values: dict[str, Any]) -> None:
    from onnx import numpy_helper

    for node in graph.node:
        for index, name in enumerate(node.output):
            if name in values:
                node.output[index] = f"{name}.computed"
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in values.items()
    )


def _split(graph: GraphProto) -> None:
    """The newer exporter writes ``chunk(2)`` as one node, the older one as two slices."""
    from onnx import helper

    held = dict(_constants(graph))
    sliced: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        if node.op_type == "Slice":
            sliced.setdefault(node.input[0], []).append(node)
    made = {}
    for name, pair in sliced.items():
        bounds = [[held.get(each, []) for each in node.input[1:]] for node in pair]
        if len(pair) != 2 or not _halves(bounds):
            raise UsageError("its graph has a Slice that is no half.")
        outputs = [node.output[0] for node in pair]
        axis = bounds[0][2][0]
        node = helper.make_node("Split", [name], outputs, pair[0].name, axis=axis, num_outputs=2)
        made[pair[0].name] = node
    gone = {node.name for pair in sliced.values() for node in pair}
    kept = [made.get(n.name, n) for n in graph.node if n.name in made or n.name not in gone]
    del graph.node[:]
    graph.node.extend(kept)


def _halves(bounds: Sequence[Sequence[Sequence[int]]]) -> bool:
    """Whether two slices, (starts, ends, axes, and perhaps steps), are halves of one side."""
    (low, middle, axes), (start, end, others) = bounds[0][:3], bounds[1][:3]
    if any(list(steps) != [1] for each in bounds for steps in each[3:]) or len(axes) != 1:
        return False
    return (low, start, others) == ([0], middle, axes) and end == [2 * middle[0]]


def _constants(graph: GraphProto) -> Iterator[tuple[str, list[int]]]:
    """Small constants by name."""
    from onnx import numpy_helper

    for tensor in graph.initializer:
        if len(tensor.dims) <= 1 and sum(tensor.dims) <= 8:
            yield tensor.name, _listed(numpy_helper.to_array(tensor))
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            value = numpy_helper.to_array(node.attribute[0].t)
            if value.size <= 8:
                yield node.output[0], _listed(value)


def _listed(array: Any) -> list[int]:
    return [int(each) for each in array.reshape(-1)]


def _drop_unread(graph: GraphProto) -> None:
    """Take out what computed the shapes: nobody reads it any more."""
    read = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if read & set(node.output):
            read |= set(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
