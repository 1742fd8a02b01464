"""What an ONNX file says about itself: written into it, and read back out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

__all__ = ["facts", "finish", "opset_of"]

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that decide a network's precision."""
FOLDS = ("Conv", "ConvTranspose", "Gemm")
"""Operators that can take up the batch norm behind them."""


def finish(file: Path, name: str, description: str, metadata: Mapping[str, str]) -> None:
    """Check a file that an exporter wrote, and write into it what it is.

    The exporter's own notes are removed: they hold the source paths of this machine. The IR version
    becomes the oldest that has the opset, so that older runtimes open the file too.

    Raises:
        onnx.checker.ValidationError: the graph is not valid.
    """
    import onnx
    from onnx import checker, helper

    model = onnx.load(file)
    graph = model.graph
    for node in graph.node:
        node.ClearField("doc_string")
    for part in [graph, *graph.node, *graph.input, *graph.output, *graph.value_info]:
        part.ClearField("metadata_props")
    for tensor in graph.initializer:
        tensor.ClearField("metadata_props")
    graph.name, graph.doc_string, model.doc_string = name, "", description
    helper.set_model_props(model, dict(metadata))
    oldest: int = helper.find_min_ir_version_for(list(model.opset_import))
    model.ir_version = min(model.ir_version, oldest)
    checker.check_model(model, full_check=True)
    onnx.save(model, file)


def opset_of(file: Path) -> int:
    """Version of ONNX's own operator set, as the file has it."""
    import onnx

    return _opset(onnx.load(file, load_external_data=False))


def facts(file: Path) -> dict[str, Any]:
    """Describe a file by what is in it.

    Returns:
        ``opset``, ``ir_version``, ``precision`` (``fp32``, ``fp16``, ``int8`` or a mixture, most
        frequent first), ``weighted`` (convolutions and matrix products by precision), ``nodes`` (by
        operator, most frequent first), ``batch_norms`` (``left`` in all, and those among them that
        are ``foldable``) and ``bytes``.
    """
    import onnx

    model = onnx.load(file)
    weighted = Counter(_precisions(model))
    nodes = Counter(node.op_type for node in model.graph.node)
    return {
        "opset": _opset(model),
        "ir_version": model.ir_version,
        "precision": "+".join(precision for precision, _ in weighted.most_common()),
        "weighted": dict(weighted.most_common()),
        "nodes": dict(nodes.most_common()),
        "batch_norms": {
            "left": nodes["BatchNormalization"],
            "foldable": sum(1 for _ in _foldable(model.graph)),
        },
        "bytes": file.stat().st_size,
    }


def _opset(model: ModelProto) -> int:
    return int(next(e.version for e in model.opset_import if e.domain in ("", "ai.onnx")))


def _precisions(model: ModelProto) -> Iterable[str]:
    """Precision of each convolution and matrix product: int8 where its input is dequantised."""
    from onnx import TensorProto, shape_inference

    names = {
        TensorProto.FLOAT: "fp32",
        TensorProto.FLOAT16: "fp16",
        TensorProto.BFLOAT16: "bf16",
        TensorProto.DOUBLE: "fp64",
    }
    graph = shape_inference.infer_shapes(model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.output]}
    makers = _makers(graph)
    for node in graph.node:
        if node.op_type in WEIGHTED:
            maker = makers.get(node.input[0])
            quantised = maker is not None and maker.op_type == "DequantizeLinear"
            yield "int8" if quantised else names.get(types.get(node.output[0], 0), "unknown")


def _foldable(graph: GraphProto) -> Iterable[NodeProto]:
    """Batch norms right behind an operator that nothing else reads."""
    makers = _makers(graph)
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    for node in graph.node:
        maker = makers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if maker is not None and maker.op_type in FOLDS and readers[node.input[0]] == 1:
            yield node


def _makers(graph: GraphProto) -> dict[str, NodeProto]:
    return {name: node for node in graph.node for name in node.output}
