"""Quantise a float graph with ONNX Runtime's quantiser: Q/DQ in the graph, nothing else changed."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekd.errors import GateError, UsageError
from edgekd.export._clips import clipped
from edgekd.export._exporters import reason_of
from edgekd.export._graph import finish
from edgekd.export._quantising.choosing import chosen_nodes, layers_of, name_nodes
from edgekd.export._quantising.flavours import WEIGHTED, Flavour, broken_promises
from edgekd.export._quantising.float_layers import keep_in_float, taken_along

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

__all__ = ["FloatGraph", "Ranges", "quantise", "read_float_graph"]

Ranges = Mapping[str, tuple[float, float]]
"""Least and greatest value of each tensor that is quantised."""
WAYS_OUT = "Use --precision fp32 or fp16, and report the network."


@dataclass(frozen=True)
class FloatGraph:
    """A float graph, looked through for what can be quantised."""

    model: ModelProto
    flavour: Flavour
    nodes: tuple[str, ...]
    """Names of the nodes to quantise."""
    tensors: tuple[str, ...]
    """Activations whose ranges are wanted."""
    clipped: Mapping[str, str]
    """Tensors that only Relu and Clip read, and what they make of them: their range is its."""
    layers: Mapping[str, tuple[str, ...]]
    """Nodes by the convolution or matrix product that they are, or whose result they work on."""


def read_float_graph(file: Path, flavour: Flavour) -> FloatGraph:
    """Read a float file and find out what of it is quantised.

    Raises:
        UsageError: nothing is: it has no convolutions and no products with learned matrices.
    """
    import onnx
    from onnx import helper, shape_inference

    model = shape_inference.infer_shapes(onnx.load(file))
    name_nodes(model.graph)
    # ONNX Runtime's quantiser would otherwise write the graph and infer its shapes at every call.
    helper.set_model_props(model, {"onnx.infer": "onnxruntime.quant"} | _properties(model))
    graph = model.graph
    chosen = chosen_nodes(graph, flavour)
    learned = {tensor.name for tensor in graph.initializer}
    if not any(n.op_type in WEIGHTED and n.input[1] in learned for n in chosen):
        raise UsageError(
            f"{graph.name} has no convolution and no product with a learned matrix in its graph, "
            f"so there is nothing to quantise. It has {len(graph.node)} nodes: "
            f"{', '.join(sorted({n.op_type for n in graph.node})[:8])}. Use --precision fp32."
        )
    ends = {name: end.output for name, end in clipped(graph).items()}
    floats = _floats(graph)
    wanted = [
        ends.get(name, name)
        for node in chosen
        for name in (*node.input, *(node.output if flavour.outputs else ()))
        if name in floats
    ]
    return FloatGraph(
        model,
        flavour,
        tuple(node.name for node in chosen),
        tuple(dict.fromkeys(wanted)),
        MappingProxyType(ends),
        MappingProxyType(layers_of(graph, chosen)),
    )


def quantise(graph: FloatGraph, file: Path, ranges: Ranges, floats: Collection[str] = ()) -> None:
    """Write a graph as int8; the same input gives the same bytes.

    Args:
        graph: from :func:`read_float_graph`.
        file: to write.
        ranges: of ``graph.tensors``.
        floats: names of layers to leave in float.

    Raises:
        GateError: the quantiser fails, or did not keep what the flavour promises.
    """
    import onnx

    kept = {name for layer in floats for name in graph.layers[layer]}
    nodes = [name for name in graph.nodes if name not in kept]
    model = _quantised(graph, ranges, nodes)
    if graph.flavour.outputs:  # TensorRT does as it is told, and takes no scale per channel there
        keep_in_float(model, {n.name for n in graph.model.graph.node} - set(nodes))
    onnx.save(model, file)
    source = graph.model
    metadata = {key: text for key, text in _properties(source).items() if key != "onnx.infer"}
    metadata["edgekd.precision"] = "int8"
    finish(file, source.graph.name, source.doc_string, metadata)
    written = onnx.load(file)
    broken = broken_promises(written, graph.flavour, source) + taken_along(written, kept)
    if broken:
        raise GateError(
            f"ONNX Runtime's quantiser wrote {source.graph.name} in another way than this target "
            f"takes: {'; '.join(broken[:3])}. {WAYS_OUT}"
        )


def _quantised(graph: FloatGraph, ranges: Ranges, nodes: list[str]) -> ModelProto:
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

    flavour = graph.flavour
    all_ranges = dict(ranges) | {
        name: ranges[c] for name, c in graph.clipped.items() if c in ranges
    }
    data = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in all_ranges.items()
    }
    arguments: tuple[Any, ...] = (
        copy.deepcopy(graph.model),
        True,  # one scale per channel
        flavour.reduced,
        QuantType.QInt8,
        QuantType.QInt8 if flavour.signed else QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, data),
        nodes,
        [],
        list(flavour.operators),
        flavour.options,
    )
    try:
        return _run(arguments)
    except Exception as error:  # it has no class for its errors, and fails at what it never met
        raise GateError(
            f"ONNX Runtime's quantiser fails at {graph.model.graph.name}: {reason_of(error)}. "
            f"{WAYS_OUT}"
        ) from error


def _run(arguments: tuple[Any, ...]) -> ModelProto:
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    with _quiet():
        quantiser = QDQQuantizer(*arguments)
        quantiser.quantize_model()
        quantiser.model.topological_sort()
        model: ModelProto = quantiser.model.model
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what ONNX Runtime's quantiser logs and prints; what it made is read back instead."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(before)


def _properties(model: ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _floats(graph: GraphProto) -> set[str]:
    """Activations of float32."""
    from onnx import TensorProto

    known: list[Any] = [*graph.value_info, *graph.input, *graph.output]
    constants = {tensor.name for tensor in graph.initializer}
    return {v.name for v in known if v.type.tensor_type.elem_type == TensorProto.FLOAT} - constants
