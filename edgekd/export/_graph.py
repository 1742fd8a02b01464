"""What an ONNX file says about itself: written into it, and read back out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.export._precisions import WEIGHTED, node_types
from edgekd.records import beside

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

__all__ = ["WEIGHTED", "discard", "facts", "finish", "move", "opset_of"]

FOLDS = ("Conv", "ConvTranspose", "Gemm")
"""Operators that can take up the batch norm behind them."""


def finish(file: Path, name: str, description: str, metadata: Mapping[str, str]) -> None:
    """Check a file that an exporter wrote, and write into it what it is.

    The exporter's own notes are removed: they hold the source paths of this machine. The IR version
    becomes the oldest that has the opset, so that older runtimes open the file too. Weights in a
    second file are not touched.

    Raises:
        onnx.checker.ValidationError: the graph is not valid.
    """
    import onnx
    from onnx import checker, helper

    model = onnx.load(file, load_external_data=False)
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
    onnx.save(model, file)
    checker.check_model(str(file), full_check=True)  # of the file: a model may be over 2 GiB


def move(file: Path, target: Path) -> Path:
    """Rename a model file, and with it the second file that big weights are in.

    The model names that file, so a plain rename would lose its weights.
    """
    data = beside(file)
    if not data:
        for stale in beside(target):
            stale.unlink()
        return file.replace(target)
    import onnx

    model = onnx.load(file, load_external_data=False)
    name = f"{target.name}.data"
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = name
    onnx.save(model, target)
    data[0].replace(target.with_name(name))
    if file != target:
        file.unlink()
    return target


def discard(file: Path) -> None:
    """Remove a model file, if it is there, and the second one of its weights."""
    for part in (*beside(file), file):
        part.unlink(missing_ok=True)


def opset_of(file: Path) -> int:
    """Version of ONNX's own operator set, as the file has it."""
    import onnx

    return _opset(onnx.load(file, load_external_data=False))


def facts(file: Path) -> dict[str, Any]:
    """Describe a file by what is in it.

    Returns:
        ``opset``, ``ir_version``, ``precision`` (``fp32``, ``fp16``, ``int8`` or a mixture, most
        frequent first), ``weighted`` (convolutions and matrix products by precision), ``types``
        (nodes by operator and precision, see :mod:`edgekd.export._precisions`), ``nodes`` (by
        operator, most frequent first, Q and DQ among them), ``batch_norms`` (``left`` in all, and
        those among them that are ``foldable``) and ``bytes``, of both files if the weights have
        one of their own.
    """
    import onnx

    model = onnx.load(file, load_external_data=False)
    types = node_types(model)
    weighted: Counter[str] = Counter()
    for operator in WEIGHTED:
        weighted.update(types.get(operator, {}))
    nodes = Counter(node.op_type for node in model.graph.node)
    return {
        "opset": _opset(model),
        "ir_version": model.ir_version,
        "precision": "+".join(precision for precision, _ in weighted.most_common()),
        "weighted": dict(weighted.most_common()),
        "types": types,
        "nodes": dict(nodes.most_common()),
        "batch_norms": {
            "left": nodes["BatchNormalization"],
            "foldable": sum(1 for _ in _foldable(model.graph)),
        },
        "bytes": sum(part.stat().st_size for part in (file, *beside(file))),
    }


def _opset(model: ModelProto) -> int:
    return int(next(e.version for e in model.opset_import if e.domain in ("", "ai.onnx")))


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
