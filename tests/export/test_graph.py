"""Graphs made by hand: lowering their opset, and reading what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, parser

from edgekd.errors import UsageError
from edgekd.export._graph import facts
from edgekd.export._opset import lower


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


def test_facts_find_the_precision_in_the_file(tmp_path: Path) -> None:
    model = graph(
        18,
        """
        scale = Constant <value = float {0.1}> ()
        zero = Constant <value = int8 {0}> ()
        f = Flatten (x)
        w8 = Constant <value = int8[256,1] {1}> ()
        q = QuantizeLinear (f, scale, zero)
        d = DequantizeLinear (q, scale, zero)
        t = Transpose (f)
        a = MatMul (f, t)
        h = Cast <to = 10> (f)
        ht = Transpose (h)
        b16 = MatMul (h, ht)
        b = Cast <to = 1> (b16)
        dt = Transpose (f)
        c = MatMul (d, dt)
        e = MatMul (d, dt)
        y = Sum (a, b, c, e)
        """,
    )
    onnx.save(model, tmp_path / "a")
    found = facts(tmp_path / "a")
    assert found["weighted"] == {"int8": 2, "fp32": 1, "fp16": 1}
    assert found["precision"] == "int8+fp32+fp16"
