"""Graphs made by hand: lowering their opset, and reading what is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, parser
from torch import nn

from edgekd.errors import UsageError
from edgekd.export import _exporters
from edgekd.export._exporters import EXPORTERS, torchscript
from edgekd.export._graph import discard, facts, finish, move, opset_of
from edgekd.export._opset import lower
from edgekd.models import zoo


def logits_of(file: Path, feed: Any) -> Any:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: feed})[0]


def graph(opset: int, body: str) -> onnx.ModelProto:
    head = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    return parser.parse_model(f"{head} g (float[n,4,8,8] x) => (float[n,k] y) {{ {body} }}")


def attributes(model: onnx.ModelProto, operator: str) -> dict[str, Any]:
    (node,) = (node for node in model.graph.node if node.op_type == operator)
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def test_lowering_keeps_the_answers(tmp_path: Path) -> None:
    """Split by number, a reduction by input and a Resize: all three changed with opset 18."""
    model = graph(
        18,
        """
        axes = Constant <value = int64[2] {2, 3}> ()
        scales = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> ()
        big = Resize <mode = "nearest", antialias = 0> (x, , scales)
        left, right = Split <axis = 1, num_outputs = 2> (big)
        twice = Add (left, left)
        joined = Concat <axis = 1> (twice, right)
        y = ReduceMax <keepdims = 0, noop_with_empty_axes = 0> (joined, axes)
        """,
    )
    model = onnx.shape_inference.infer_shapes(model)
    onnx.save(model, tmp_path / "new")
    lower(model, 16)
    onnx.save(model, tmp_path / "old")
    assert model.opset_import[0].version == 16
    assert attributes(model, "ReduceMax") == {"keepdims": 0, "axes": [2, 3]}
    assert attributes(model, "Split") == {"axis": 1}
    assert "antialias" not in attributes(model, "Resize")
    feed = np.random.default_rng(0).normal(size=(3, 4, 8, 8)).astype(np.float32)
    assert np.array_equal(logits_of(tmp_path / "old", feed), logits_of(tmp_path / "new", feed))


@pytest.mark.parametrize(
    ("opset", "body", "says"),
    [
        (17, "z = Mish (x) y = Flatten (z)", "no form in opset 17: .*Mish"),
        (12, "y = Flatten (x)", "opset 12 is below 16"),
        (17, "a, b = Split <axis = 0, num_outputs = 2> (x) y = Flatten (a)", "sizes of Split"),
        (17, "s = Shape (x) z = ReduceMax (x, s) y = Flatten (z)", "axes of ReduceMax"),
        (
            17,
            """
            s = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> ()
            z = Resize <mode = "linear", antialias = 1> (x, , s)
            y = Flatten (z)
            """,
            "antialias=1",
        ),
    ],
)
def test_lowering_refuses_what_has_no_older_form(opset: int, body: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        lower(graph(18, body), opset)


def test_facts_count_the_batch_norms_a_convolution_could_take(tmp_path: Path) -> None:
    model = graph(
        18,
        """
        w = Constant <value = float[4,4,1,1] {0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,
            0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1}> ()
        one = Constant <value = float[4] {1.0, 1.0, 1.0, 1.0}> ()
        c = Conv (x, w)
        folds = BatchNormalization (c, one, one, one, one)
        r = Relu (folds)
        stays = BatchNormalization (r, one, one, one, one)
        shared = Conv (x, w)
        read_twice = BatchNormalization (shared, one, one, one, one)
        all = Sum (stays, shared, read_twice)
        y = Flatten (all)
        """,
    )
    onnx.save(model, tmp_path / "a")
    assert facts(tmp_path / "a")["batch_norms"] == {"left": 3, "foldable": 1}


QUANTISED = """
    scale = Constant <value = float {0.1}> ()
    zero = Constant <value = int8 {0}> ()
    q = QuantizeLinear (x, scale, zero)
    d = DequantizeLinear (q, scale, zero)
"""
WEIGHT = """
    w = Constant <value = int8[4,4,1,1] {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}> ()
    wd = DequantizeLinear (w, scale, zero)
"""


def types_of(body: str, tmp_path: Path) -> dict[str, dict[str, int]]:
    onnx.save(graph(18, body), tmp_path / "a")
    found: dict[str, dict[str, int]] = facts(tmp_path / "a")["types"]
    return found


def test_facts_find_the_precision_in_the_file(tmp_path: Path) -> None:
    """One product of each kind: int8 takes both, the input and the weight."""
    model = graph(
        18,
        f"""
        {QUANTISED}
        f = Flatten (x)
        t = Transpose (f)
        a = MatMul (f, t)
        h = Cast <to = 10> (f)
        ht = Transpose (h)
        b16 = MatMul (h, ht)
        b = Cast <to = 1> (b16)
        df = Flatten (d)
        dt = Transpose (df)
        c = MatMul (df, dt)
        e = MatMul (df, dt)
        half_way = MatMul (df, t)
        y = Sum (a, b, c, e, half_way)
        """,
    )
    onnx.save(model, tmp_path / "a")
    found = facts(tmp_path / "a")
    assert found["weighted"] == {"int8": 2, "fp32": 2, "fp16": 1}
    assert found["types"]["MatMul"] == found["weighted"]
    assert found["types"]["Cast"] == {"fp16": 1, "fp32": 1}
    assert set(found["precision"].split("+")) == {"int8", "fp32", "fp16"}
    assert not {"QuantizeLinear", "DequantizeLinear", "Constant"} & found["types"].keys()
    assert found["nodes"]["DequantizeLinear"] == 1


@pytest.mark.parametrize(
    ("node", "operator", "precision"),
    [
        ("r = Add (d, d)", "Add", "int8"),
        ("r = Sigmoid (d)", "Sigmoid", "int8"),
        ("r = GlobalAveragePool (d)", "GlobalAveragePool", "int8"),
        ("r = Transpose <perm = [0, 2, 3, 1]> (d)", "Transpose", "int8"),
        ("r = HardSwish (d)", "HardSwish", "fp32"),
        ("r = Sub (d, d)", "Sub", "fp32"),
        ("r = Tanh (d)", "Tanh", "fp32"),
        ("r = ReduceMean (d)", "ReduceMean", "fp32"),
        ("r = Add (d, x)", "Add", "fp32"),
        ("r = Relu (d)", "Relu", "int8"),
        ("c = Conv (d, wd) r = Relu (c)", "Relu", "int8"),
        ("c = Conv (x, wd) r = Relu (c)", "Relu", "fp32"),
        ("c = Conv (x, wd) r = Relu (c)", "Conv", "fp32"),
        ("c = Conv (d, wd) r = Relu (c)", "Conv", "int8"),
    ],
)
def test_between_two_roundings_int8_is_what_has_an_integer_form(
    node: str, operator: str, precision: str, tmp_path: Path
) -> None:
    body = f"""
        {QUANTISED} {WEIGHT} {node}
        rq = QuantizeLinear (r, scale, zero)
        rd = DequantizeLinear (rq, scale, zero)
        y = Flatten (rd)
    """
    assert types_of(body, tmp_path)[operator] == {precision: 1}


def test_operator_whose_output_is_not_rounded_computes_in_float(tmp_path: Path) -> None:
    body = f"{QUANTISED} r = Add (d, d) rq = QuantizeLinear (r, scale, zero) y = Flatten (r)"
    assert types_of(body, tmp_path)["Add"] == {"fp32": 1}
    last = f"{QUANTISED} f = Flatten (d) y = Add (f, f)"
    assert types_of(last, tmp_path)["Add"] == {"fp32": 1}


def test_product_that_reads_a_scale_per_channel_computes_in_float(tmp_path: Path) -> None:
    """It is how a layer is left in float between those in int8."""
    made = graph(18, f"{QUANTISED} {WEIGHT} c = Conv (d, wd) y = Flatten (c)")
    for size, precision in ((1, "int8"), (4, "fp32")):
        scale = onnx.numpy_helper.from_array(np.full(size, 0.1, np.float32), "scales")
        zero = onnx.numpy_helper.from_array(np.zeros(size, np.int8), "zeros")
        del made.graph.initializer[:]
        made.graph.initializer.extend([scale, zero])
        (maker,) = (n for n in made.graph.node if n.output[0] == "d")
        maker.input[1:] = ["scales", "zeros"]
        onnx.save(made, tmp_path / "a")
        assert facts(tmp_path / "a")["types"]["Conv"] == {precision: 1}


def test_nodes_that_compute_shapes_have_no_precision(tmp_path: Path) -> None:
    body = "s = Shape (x) one = Constant <value = int64[4] {1, 1, 1, 1}> () n = Mul (s, one) "
    assert set(types_of(f"{body} z = Expand (x, n) y = Flatten (z)", tmp_path)) == {
        "Expand",
        "Flatten",
    }


def test_types_are_those_that_onnx_runtime_computes_in(
    randomise: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> None:
    """Its quantiser's file, and what is left of it after its own fusions."""
    from onnxruntime.quantization import QuantType, quantize_static

    torch.manual_seed(0)
    network = randomise(zoo.create("resnet8", 10)).eval()
    torchscript(network, torch.zeros(2, 3, 32, 32), "input", tmp_path / "float.onnx", 18)
    feed = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    reader = Reader([{"input": feed}])
    quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "int8.onnx",
        reader,
        per_channel=True,
        activation_type=QuantType.QUInt8,  # signed ones it fuses in part only
    )
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "run.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(
        str(tmp_path / "int8.onnx"), options, providers=["CPUExecutionProvider"]
    )
    run = Counter(node.op_type for node in onnx.load(tmp_path / "run.onnx").graph.node)
    types = facts(tmp_path / "int8.onnx")["types"]
    assert types["Conv"] == {"int8": run["QLinearConv"]} == {"int8": 9}
    assert types["Add"] == {"int8": run["QLinearAdd"]} == {"int8": 3}
    assert types["Gemm"] == {"int8": run["QGemm"]} == {"int8": 1}
    assert types["GlobalAveragePool"] == {"int8": run["QLinearGlobalAveragePool"]} == {"int8": 1}


class Reader:
    """What ONNX Runtime's calibration reads."""

    def __init__(self, feeds: list[dict[str, Any]]) -> None:
        self.left = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        return next(self.left, None)


# Two files


@pytest.mark.parametrize(("exporter", "opset"), [("dynamo", 17), ("torchscript", 18)])
def test_big_weights_go_into_a_file_beside(
    exporter: str,
    opset: int,
    randomise: Callable[[nn.Module], nn.Module],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_exporters, "LIMIT", 50_000)
    torch.manual_seed(0)
    network = randomise(zoo.create("resnet8", 10)).eval()
    file, other = tmp_path / "a.onnx", tmp_path / "deeper" / "b.onnx"
    other.parent.mkdir()
    EXPORTERS[exporter](network, torch.zeros(2, 3, 32, 32), "input", file, opset)
    finish(file, "resnet8", "two files", {"key": "value"})
    assert opset_of(file) == opset
    assert move(file, other) == other
    assert [path.name for path in tmp_path.iterdir()] == ["deeper"]
    weights = other.with_name("b.onnx.data").stat().st_size
    assert sorted(path.name for path in other.parent.iterdir()) == ["b.onnx", "b.onnx.data"]
    assert facts(other)["bytes"] == other.stat().st_size + weights
    assert other.stat().st_size < 50_000 < weights
    feed = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        right = network(torch.from_numpy(feed)).numpy()
    assert np.abs(logits_of(other, feed) - right).max() < 1e-5 * np.abs(right).max()
    discard(other)
    assert not list(other.parent.iterdir())


def test_moving_one_file_leaves_no_weights_of_another(tmp_path: Path) -> None:
    file, target = tmp_path / "a.onnx", tmp_path / "b.onnx"
    onnx.save(graph(18, "y = Flatten (x)"), file)
    (tmp_path / "b.onnx.data").write_bytes(b"of an older export")
    move(file, target)
    assert [path.name for path in tmp_path.iterdir()] == ["b.onnx"]
    discard(target)
    discard(target)
    assert not list(tmp_path.iterdir())


def test_graph_that_is_not_valid_is_not_finished(tmp_path: Path) -> None:
    onnx.save(graph(18, "y = NoSuchOperator (x)"), tmp_path / "a")
    with pytest.raises(onnx.checker.ValidationError, match="NoSuchOperator"):
        finish(tmp_path / "a", "a", "", {})
