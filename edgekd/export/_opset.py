"""Rewrite a graph of opset 18 as opset 17 or 16, which TensorRT 8 reads.

TensorRT 8.5 and 8.6 ignore the ``axes`` *input* that opset 18 gave the reductions, and reduce over
everything without a word; PyTorch writes nothing below 18, and ONNX's own converter cannot lower
these. Few operators differ, so they are rewritten here, and ONNX's checker refuses what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgekd.errors import UsageError

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

__all__ = ["LOWEST", "NATIVE", "lower"]

NATIVE = 18
"""What PyTorch's exporter writes; higher ones are made from it by ONNX's converter."""
LOWEST = 16


def lower(model: ModelProto, opset: int) -> None:
    """Make a model of opset 18 one of ``opset``, in place.

    Raises:
        UsageError: an operator has no form in that opset.
    """
    from onnx import checker, shape_inference

    if opset < LOWEST:
        raise UsageError(f"opset {opset} is below {LOWEST}, the lowest this graph can be made.")
    for node in model.graph.node:
        if node.op_type in REWRITES:
            REWRITES[node.op_type](node, model.graph)
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = opset
    _prune(model.graph)
    if any(tensor.external_data for tensor in model.graph.initializer):
        return  # too big to be checked in memory; it is checked as a file
    try:
        checker.check_model(model, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"the graph has no form in opset {opset}: {reason}") from error


def _prune(graph: GraphProto) -> None:
    """Remove constants that nothing reads any more: a runtime warns of each."""
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return  # a graph within reads names of this one
    read = {name for node in graph.node for name in node.input}
    read |= {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _axes_to_attribute(node: NodeProto, graph: GraphProto) -> None:
    from onnx import helper

    _drop(node, noop_with_empty_axes=0)
    if len(node.input) > 1 and node.input[1]:
        axes = [int(axis) for axis in np.atleast_1d(_constant(node.input[1], graph, node))]
        node.attribute.append(helper.make_attribute("axes", axes))
    del node.input[1:]


def _outputs_to_sizes(node: NodeProto, graph: GraphProto) -> None:
    """``num_outputs`` of a Split became possible with opset 18; before, its sizes are an input."""
    from onnx import numpy_helper

    counts = [attribute for attribute in node.attribute if attribute.name == "num_outputs"]
    if not counts:
        return
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    dims = [shapes[name][axis] for name in node.output if name in shapes]
    if len(dims) != len(node.output) or not all(dim.dim_value for dim in dims):
        raise UsageError(f"the sizes of Split {node.name} are not known before it runs.")
    name = f"{node.name}_sizes"
    sizes = np.array([dim.dim_value for dim in dims], np.int64)
    graph.initializer.append(numpy_helper.from_array(sizes, name))
    del node.input[1:]
    node.input.append(name)
    node.attribute.remove(counts[0])


def _plain_resize(node: NodeProto, graph: GraphProto) -> None:
    _drop(node, antialias=0, keep_aspect_ratio_policy=b"stretch")


def _drop(node: NodeProto, **defaults: int | bytes) -> None:
    """Remove attributes that the older opset does not have, if they say what it does anyway."""
    from onnx import helper

    found: list[AttributeProto] = [a for a in node.attribute if a.name in defaults]
    for attribute in found:
        value = helper.get_attribute_value(attribute)
        if value != defaults[attribute.name]:
            raise UsageError(f"{node.op_type} {node.name} uses {attribute.name}={value!r}.")
        node.attribute.remove(attribute)


def _constant(name: str, graph: GraphProto, node: NodeProto) -> np.ndarray:
    from onnx import numpy_helper

    for tensor in graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    for maker in graph.node:
        if (
            name in maker.output
            and maker.op_type == "Constant"
            and maker.attribute[0].HasField("t")
        ):
            return numpy_helper.to_array(maker.attribute[0].t)
    raise UsageError(f"the axes of {node.op_type} {node.name} are not known before it runs.")


REDUCTIONS = ("Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
"""Not ReduceSum: its axes are an input since opset 13."""

REWRITES: dict[str, Callable[[NodeProto, GraphProto], None]] = {
    **{f"Reduce{name}": _axes_to_attribute for name in REDUCTIONS},
    "Split": _outputs_to_sizes,
    "Resize": _plain_resize,
}
