"""Quantising: the same bytes every time, only Q/DQ added, and none where they only hurt."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from edgekd.data import Images
from edgekd.errors import GateError, UsageError
from edgekd.export._graph import facts
from edgekd.export._quantising import quantise as quantising
from edgekd.export._quantising.calibrators import observe, ranges_of
from edgekd.export._quantising.flavours import FLAVOURS
from edgekd.export._quantising.quantise import FloatGraph, Ranges, quantise, read_float_graph
from edgekd.export._running import run_file
from edgekd.preprocess import Preprocess

VNNI = FLAVOURS["vnni"]
LAYERS = 10
"""Of resnet8: seven convolutions, two on shortcuts, and the classifier."""


@pytest.fixture(scope="module")
def graph(float_resnet: Path) -> FloatGraph:
    return read_float_graph(float_resnet, VNNI)


@pytest.fixture(scope="module")
def ranges(
    graph: FloatGraph,
    images: Callable[[int, int], Images],
    preprocess: Callable[[int], Preprocess],
    tmp_path_factory: pytest.TempPathFactory,
) -> Ranges:
    folder = tmp_path_factory.mktemp("ranges")
    spreads = observe(graph, images(16, 32).pixels, preprocess(32), folder)
    return ranges_of(spreads, "minmax", False)


@pytest.fixture(scope="module")
def file(graph: FloatGraph, ranges: Ranges, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("int8") / "model.onnx"
    quantise(graph, made, ranges)
    return made


def written(folder: Path, nodes: list[NodeProto], *weights: tuple[str, np.ndarray]) -> Path:
    """A graph (B, 6, 6) float32 to (B, 6, 6), from its nodes."""
    shape = ("batch", 6, 6)
    entry, result = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "xy")
    constants = [numpy_helper.from_array(array, name) for name, array in weights]
    graph = helper.make_graph(nodes, "tiny", [entry], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "tiny.onnx")
    return folder / "tiny.onnx"


def readers_of(model: ModelProto, name: str) -> set[str]:
    return {node.op_type for node in model.graph.node if name in node.input}


def test_every_weighted_node_is_int8_and_the_rest_is_as_it_was(
    file: Path, float_resnet: Path
) -> None:
    before, after = facts(float_resnet), facts(file)
    assert after["precision"] == "int8"
    assert after["weighted"] == {"int8": before["weighted"]["fp32"]}
    assert (after["opset"], after["ir_version"]) == (before["opset"], before["ir_version"])
    model = onnx.load(file)
    assert [entry.domain for entry in model.opset_import] == [""]
    kept = {p.key: p.value for p in model.metadata_props}
    assert kept == {"edgekd.precision": "int8", "edgekd.labels": "[]"}
    assert (model.graph.name, model.doc_string) == ("tiny", "Takes images.")
    assert after["bytes"] < 0.45 * before["bytes"]


def test_every_batch_size_runs(
    file: Path, images: Callable[[int, int], Images], preprocess: Callable[[int], Preprocess]
) -> None:
    pixels = images(6, 32).pixels
    chunks = [slice(0, 1), slice(1, 6)]
    by_five = run_file(file, preprocess(32), pixels, chunks)
    assert np.allclose(by_five, run_file(file, preprocess(32), pixels), atol=1e-5)


def test_the_normalisation_stays_in_float(file: Path) -> None:
    model = onnx.load(file)
    node = next(n for n in model.graph.node if "images" in n.input)
    passed = []
    while node.op_type != "QuantizeLinear":
        passed.append(node.op_type)
        (node,) = (n for n in model.graph.node if node.output[0] in n.input)
    assert passed == ["Cast", "Transpose", "Mul", "Add"]
    (quantised,) = (n for n in model.graph.node if n.output[0] == node.output[0])
    assert quantised.input[0] not in {t.name for t in model.graph.initializer}


def test_a_float_input_is_quantised_at_once(tmp_path: Path) -> None:
    """Only what stands between uint8 pixels and the network is its entrance."""
    weight = np.eye(6, dtype=np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    found = read_float_graph(written(tmp_path, nodes, ("w", weight)), VNNI)
    assert found.nodes == ("product",)
    assert found.tensors == ("x", "y")


def test_the_same_input_gives_the_same_bytes(
    file: Path, graph: FloatGraph, ranges: Ranges, tmp_path: Path
) -> None:
    again = tmp_path / "again.onnx"
    quantise(graph, again, ranges)
    assert again.read_bytes() == file.read_bytes()


def test_another_process_writes_the_same_bytes(
    file: Path, float_resnet: Path, ranges: Ranges, tmp_path: Path
) -> None:
    """Python orders sets of names anew in every process."""
    script = (
        "import sys, json\n"
        "from pathlib import Path\n"
        "from edgekd.export._quantising.flavours import FLAVOURS\n"
        "from edgekd.export._quantising.quantise import quantise, read_float_graph\n"
        "graph = read_float_graph(Path(sys.argv[1]), FLAVOURS['vnni'])\n"
        "quantise(graph, Path(sys.argv[2]), json.loads(sys.argv[3]))\n"
    )
    out = tmp_path / "other.onnx"
    table = json.dumps({name: list(span) for name, span in ranges.items()})
    subprocess.run(
        [sys.executable, "-c", script, str(float_resnet), str(out), table],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    )
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (file, out)]
    assert digests[0] == digests[1]


def test_the_quantiser_is_silent_and_logging_is_as_before(
    graph: FloatGraph,
    ranges: Ranges,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    quantise(graph, tmp_path / "silent.onnx", ranges)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    logging.getLogger("edgekd").warning("still heard")
    assert [record.message for record in caplog.records] == ["still heard"]


def test_layers_are_called_as_in_the_network_and_stay_float_if_asked(
    graph: FloatGraph, ranges: Ranges, tmp_path: Path
) -> None:
    assert len(graph.layers) == LAYERS
    assert all(len(nodes) >= 1 for nodes in graph.layers.values())
    chosen = list(graph.layers)[2]
    quantise(graph, tmp_path / "mixed.onnx", ranges, floats=[chosen])
    found = facts(tmp_path / "mixed.onnx")
    assert found["weighted"] == {"int8": LAYERS - 1, "fp32": 1}
    model = onnx.load(tmp_path / "mixed.onnx")
    floats = [
        n.name
        for n in model.graph.node
        if n.op_type in ("Conv", "Gemm") and n.input[1] in {t.name for t in model.graph.initializer}
    ]
    assert floats == [graph.layers[chosen][0]]


def test_trained_names_survive(
    digit_net: nn.Sequential,
    as_onnx: Callable[[nn.Module, Preprocess, Path], Path],
    tmp_path: Path,
) -> None:
    plain = Preprocess((8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    found = read_float_graph(as_onnx(digit_net, plain, tmp_path / "net.onnx"), VNNI)
    assert list(found.layers) == [*(str(2 * i) for i in range(7)), "16"]
    convolution, relu = found.layers["2"]
    assert {n.op_type for n in found.model.graph.node if n.name in (convolution, relu)} == {
        "Conv",
        "Relu",
    }


def test_nodes_without_names_are_told_apart(tmp_path: Path) -> None:
    weight = np.eye(6, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "same"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "v"], ["y"], "same"),
    ]
    found = read_float_graph(written(tmp_path, nodes, ("w", weight), ("v", 2 * weight)), VNNI)
    assert len(set(found.nodes)) == 3
    assert all(found.nodes)
    assert list(found.layers.values()) == [found.nodes[:2], found.nodes[2:]]
    assert found.clipped == {"a": "b"}
    assert found.tensors == ("x", "b", "y")  # what a Relu cuts off needs no steps


def test_attention_keeps_its_softmax_and_what_feeds_it_in_float(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(0, 1, (6, 6)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"], "query"),
        helper.make_node("MatMul", ["q", "x"], ["scores"], "scores"),
        helper.make_node("Softmax", ["scores"], ["p"], "softmax"),
        helper.make_node("MatMul", ["p", "x"], ["y"], "values"),
    ]
    source = written(tmp_path, nodes, ("w", weight))
    assert read_float_graph(source, VNNI).nodes == ("query", "values")
    # TensorRT quantises no results, so that its Softmax reads float anyway
    assert read_float_graph(source, FLAVOURS["tensorrt"]).nodes == ("query", "scores", "values")


def test_gates_are_quantised_and_other_products_and_constants_are_not(tmp_path: Path) -> None:
    weight, ones = np.eye(6, dtype=np.float32), np.ones(6, np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
        helper.make_node("Add", ["a", "one"], ["b"], "bias"),
        helper.make_node("Sigmoid", ["b"], ["g"], "sigmoid"),
        helper.make_node("Mul", ["b", "g"], ["c"], "gate"),
        helper.make_node("Mul", ["c", "one"], ["d"], "scale"),
        helper.make_node("Add", ["d", "x"], ["y"], "residual"),
    ]
    source = written(tmp_path, nodes, ("w", weight), ("one", ones))
    assert read_float_graph(source, VNNI).nodes == ("product", "gate", "residual")


def test_a_sum_in_front_of_a_norm_stays_in_float(tmp_path: Path) -> None:
    weight, ones = np.eye(6, dtype=np.float32), np.ones(6, np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
        helper.make_node("Add", ["a", "x"], ["stream"], "residual"),
        helper.make_node("LayerNormalization", ["stream", "one"], ["y"], "norm"),
    ]
    source = written(tmp_path, nodes, ("w", weight), ("one", ones))
    assert read_float_graph(source, VNNI).nodes == ("product",)


def test_a_graph_without_weights_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], "relu")]
    with pytest.raises(UsageError, match=r"nothing to quantise.*Relu.*--precision fp32"):
        read_float_graph(written(tmp_path, nodes), VNNI)


def test_a_broken_promise_of_the_quantiser_is_refused(
    graph: FloatGraph, ranges: Ranges, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantising, "broken_promises", lambda *_: ["it is all wrong"])
    with pytest.raises(GateError, match="in another way than this target takes: it is all wrong"):
        quantise(graph, tmp_path / "wrong.onnx", ranges)


def test_what_the_quantiser_fails_at_is_said(
    graph: FloatGraph, ranges: Ranges, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(arguments: object) -> ModelProto:
        raise ValueError("operands could not be broadcast (12,) (3,)")

    monkeypatch.setattr(quantising, "_run", fails)
    says = r"fails at tiny: ValueError: operands .* \(3,\)\. Use --precision fp32 or fp16"
    with pytest.raises(GateError, match=says):
        quantise(graph, tmp_path / "none.onnx", ranges)
