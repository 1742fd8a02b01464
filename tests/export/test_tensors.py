"""Files with the values between their nodes shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from edgekd.errors import UsageError
from edgekd.export._explaining.tensors import Shown, flowing, tensors
from edgekd.preprocess import Preprocess

RULE = Preprocess((2, 2), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
BODY = """
    two = Constant <value = float {2.0}> ()
    four = Mul (two, two)
    size = Shape (x)
    twice = Mul (x, two)
    above = Relu (twice)
    half = Cast <to = 10> (above)
    flat = Flatten (above)
    y = ReduceSum (flat)
"""


def write(folder: Path, batch: str = "n", weights: bool = False) -> Path:
    head = '<ir_version: 8, opset_import: ["" : 18]>'
    model = parser.parse_model(f"{head} g (float[{batch},3,2,2] x) => (float[k,l] y) {{ {BODY} }}")
    file = folder / "model.onnx"
    if weights:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(12, np.float32), "w"))
        model.graph.node[-1].op_type = "Mul"
        model.graph.node[-1].input.append("w")
        where = "model.data"
        onnx.save(model, file, save_as_external_data=True, location=where, size_threshold=0)
    else:
        onnx.save(model, file)
    return file


def test_every_float_value_that_depends_on_the_input(tmp_path: Path) -> None:
    feed = np.arange(-12, 12, dtype=np.float32).reshape(2, 3, 2, 2)
    found = tensors(write(tmp_path), feed)
    assert list(found) == ["twice", "above", "half", "flat", "y"]
    assert np.array_equal(found["twice"], 2 * feed)
    assert np.array_equal(found["above"], 2 * feed.clip(0))  # not fused, hence not gone
    assert found["half"].dtype == np.float16
    assert found["y"] == 2 * feed.clip(0).sum()


def test_only_what_is_named_and_constants_on_demand(tmp_path: Path) -> None:
    feed = np.ones((1, 3, 2, 2), np.float32)
    found = tensors(write(tmp_path), feed, ["above", "four", "size", "no such"])
    assert list(found) == ["above", "four"]
    assert found["four"] == 4


def test_the_flow_leaves_out_what_no_input_reaches(tmp_path: Path) -> None:
    names = flowing(onnx.load(write(tmp_path)).graph)
    assert names == ["x", "size", "twice", "above", "half", "flat", "y"]


def test_weights_beside_the_file_are_found(tmp_path: Path) -> None:
    file = write(tmp_path, weights=True)
    assert (tmp_path / "model.data").is_file()
    feed = np.ones((2, 3, 2, 2), np.float32)
    assert np.array_equal(tensors(file, feed)["y"], np.full((2, 12), 2.0))


@pytest.mark.parametrize("batch", ["n", "4"])
def test_images_come_one_by_one_even_to_a_frozen_batch(tmp_path: Path, batch: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 3), dtype=np.uint8)
    found = [v["twice"] for v in Shown(write(tmp_path, batch)).each(pixels, RULE)]
    assert [value.shape for value in found] == [(1, 3, 2, 2)] * 3
    expected = 2 * (pixels.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5
    assert np.allclose(np.concatenate(found), expected, atol=1e-6)


def test_what_the_runtime_refuses_is_an_error_that_says_so(tmp_path: Path) -> None:
    file = write(tmp_path, "4")
    with pytest.raises(UsageError, match=r"model\.onnx does not run at batch 3"):
        tensors(file, np.ones((3, 3, 2, 2), np.float32))
    file.write_bytes(b"no model")
    with pytest.raises(UsageError, match=r"ONNX Runtime refuses model\.onnx"):
        Shown(file)
