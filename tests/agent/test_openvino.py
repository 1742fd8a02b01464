"""OpenVINO beside ONNX Runtime on the same files, and its refusals as sentences."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.agent import runtimes
from edgekd.agent.failures import AgentError
from edgekd.agent.runtimes import Session
from edgekd.agent.runtimes import openvino as module

OPTIONS = {"threads": 1, "spinning": False}
RUNTIME = runtimes.load("openvino")
installed = pytest.mark.skipif(find_spec("openvino") is None, reason="the extra edgekd[openvino]")


def opened(path: Path, **options: Any) -> Session:
    return RUNTIME.open(RUNTIME.prepare(path, OPTIONS), {**OPTIONS, **options})


def answers(name: str, path: Path, pixels: Any) -> Any:
    session = runtimes.load(name).open(path, OPTIONS)
    return session.run({session.inputs[0].name: pixels})["logits"]


@installed
def test_a_session_says_what_it_is(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    from openvino import __version__

    session = opened(tiny["classifier"](tmp_path / "a.onnx", metadata=True))
    assert session.info["name"] == "openvino"
    assert __version__.startswith(session.info["version"] + "-")
    assert session.info["provider"] == "CPU (f32)"
    assert [str(spec) for spec in session.inputs] == ["x: uint8[?,8,8,3]"]
    assert session.metadata == {"edgekd.mean": "[0.5, 0.4, 0.3]", "edgekd.std": "[0.2, 0.25, 0.3]"}
    session.close()
    bare = opened(tiny["classifier"](tmp_path / "b.onnx", size=("h", 8)), batch_size=4)
    assert [str(spec) for spec in bare.inputs] == ["x: uint8[4,?,8,3]"]
    assert bare.metadata == {}


@installed
def test_outputs_are_the_callers_to_keep(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    session = opened(tiny["classifier"](tmp_path / "a.onnx"), batch_size=2)
    pixels = tiny["pictures"](2)
    first = session.run({"x": pixels})["logits"]
    kept = first.copy()
    pixels[:] = 255 - pixels  # inputs are read where they lie, so this has to be seen
    assert np.abs(session.run({"x": pixels})["logits"] - kept).max() > 0.1
    assert np.array_equal(first, kept)


@installed
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("baked", [True, False])
def test_float_answers_are_onnx_runtimes(
    tiny: Mapping[str, Any], tmp_path: Path, baked: bool, count: int
) -> None:
    """In bfloat16, which OpenVINO takes on its own where the CPU has it, 1e-5 cannot hold."""
    path = _network(tmp_path / "net.onnx")
    pixels = np.random.default_rng(0).normal(size=(count, 3, 16, 16)).astype(np.float32)
    if baked:
        path = tiny["classifier"](tmp_path / "a.onnx", repeat=2)
        pixels = tiny["pictures"](count)
    expected = answers("ort", path, pixels)
    assert (
        np.abs(answers("openvino", path, pixels) - expected).max() < 1e-5 * np.abs(expected).max()
    )


@installed
def test_int8_answers_are_onnx_runtimes(tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    draw = np.random.default_rng(0)
    pixels = draw.normal(size=(64, 3, 16, 16)).astype(np.float32)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        batches: Iterator[dict[str, Any]] = iter([{"input": pixels}])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    path, quantised = _network(tmp_path / "net.onnx"), tmp_path / "int8.onnx"
    quantize_static(path, quantised, Reader(), per_channel=True, weight_type=QuantType.QInt8)
    expected, found = answers("ort", quantised, pixels), answers("openvino", quantised, pixels)
    exact = answers("ort", path, pixels)
    lost = np.abs(expected - exact).mean()
    assert lost > 1e-3  # it is quantised
    assert np.abs(found - expected).mean() < lost  # they differ by less than quantising costs
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95


@installed
def test_layers_are_those_that_ran(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    path = tiny["classifier"](tmp_path / "a.onnx", repeat=2)
    layers = RUNTIME.layers(path, OPTIONS, {"x": tiny["pictures"](1)})
    assert {"Sin", "FullyConnected"} <= {layer.type for layer in layers}
    assert "Parameter" not in {layer.type for layer in layers}  # it takes no time and did not run
    assert {layer.provider for layer in layers} == {"CPU (f32)"}
    assert all(0 <= layer.ms < 1000 for layer in layers)
    assert sum(layer.ms for layer in layers) > 0


@installed
def test_fewer_threads_than_asked_for_are_refused(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    path = tiny["classifier"](tmp_path / "a.onnx")
    with pytest.raises(AgentError, match=r"NUM_THREADS was asked to be 9999 and OpenVINO took \d"):
        opened(path, threads=9999)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"INFERENCE_PRECISION_HINT": "bf16"}, "PRECISION_HINT was asked to be f32 and .* bf16"),
        ({"EXECUTION_DEVICES": ["GPU.0"]}, r"DEVICES was asked to be CPU and .* GPU\.0"),
    ],
)
def test_another_precision_or_device_is_refused(changed: dict[str, Any], words: str) -> None:
    class Type:
        def __init__(self, name: str) -> None:
            self.get_type_name = lambda: name

    class Compiled:
        def get_property(self, name: str) -> Any:
            found = {
                "EXECUTION_DEVICES": ["CPU"],
                "INFERENCE_NUM_THREADS": 1,
                "INFERENCE_PRECISION_HINT": "f32",
                **changed,
            }
            return Type(found[name]) if name == "INFERENCE_PRECISION_HINT" else found[name]

    with pytest.raises(AgentError, match=words) as caught:
        module._check_found(Compiled(), OPTIONS)
    assert caught.value.kind == "provider"
    changed.clear()
    module._check_found(Compiled(), OPTIONS)


@installed
def test_a_corrupt_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"this is not a model" * 10)
    with pytest.raises(AgentError, match=r"bad\.onnx is not a whole ONNX model"):
        opened(path)


@installed
def test_an_opset_from_the_future(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    """OpenVINO itself takes it for an older one, and says nothing."""
    model = onnx.load(tiny["classifier"](tmp_path / "a.onnx"))
    model.opset_import[0].version = 99
    onnx.save(model, tmp_path / "new.onnx")
    with pytest.raises(AgentError, match=r"new\.onnx has ONNX opset 99.*with a lower opset"):
        opened(tmp_path / "new.onnx")


@installed
@pytest.mark.parametrize(
    ("node", "field", "value", "words"),
    [
        (4, "op_type", "Frobnicate", r"has operators that this release lacks.*Frobnicate"),
        (-1, "input", "nowhere", r"not a whole ONNX model.*nowhere"),
        (4, "op_type", "NonZero", r"read and refused\. It said: .*element type"),
    ],
)
def test_graphs_it_cannot_run(
    tiny: Mapping[str, Any], tmp_path: Path, node: int, field: str, value: str, words: str
) -> None:
    model = onnx.load(tiny["classifier"](tmp_path / "a.onnx"))
    if field == "input":
        model.graph.node[node].input[0] = value
    else:
        model.graph.node[node].op_type = value
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(AgentError, match=words) as caught:
        opened(tmp_path / "odd.onnx")
    assert caught.value.kind == "model"
    assert ".cpp" not in str(caught.value)


@installed
def test_weights_that_did_not_come_along(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    model = onnx.load(tiny["classifier"](tmp_path / "a.onnx"))
    target, beside = tmp_path / "split.onnx", "split.onnx.data"
    onnx.save(model, target, save_as_external_data=True, location=beside, size_threshold=0)
    assert opened(target).info["provider"] == "CPU (f32)"
    (tmp_path / beside).unlink()
    with pytest.raises(
        AgentError, match=r"in a second file, 'split\.onnx\.data', which is not beside"
    ):
        opened(target)


def test_no_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(AgentError) as caught:
        RUNTIME.prepare(tmp_path / "a.onnx", OPTIONS)
    assert caught.value.kind == "module"


def test_a_device_without_openvino_is_told_what_to_install() -> None:
    from edgekd.agent.failures import explain_import

    error = explain_import("No module named 'openvino'")
    assert str(error).endswith("-m pip install openvino")


def _network(path: Path) -> Path:
    """Two convolutions and a head on float32 (N, 3, 16, 16), with random weights."""
    draw = np.random.default_rng(1)
    shapes = {"a": (8, 3, 3, 3), "b": (16, 8, 3, 3), "head": (16, 10)}
    weights = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["input", "a"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "b"], ["e"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("GlobalAveragePool", ["f"], ["g"]),
        helper.make_node("Flatten", ["g"], ["h"]),
        helper.make_node("Gemm", ["h", "head"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path
