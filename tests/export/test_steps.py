"""Which values of two files belong together, and where in a file its images are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import parser

from edgekd.export._explaining.normalising import check_preprocess
from edgekd.export._explaining.steps import Step, counterparts, steps_of
from edgekd.export._explaining.tensors import Shown
from edgekd.preprocess import Preprocess

HEAD = '<ir_version: 8, opset_import: ["" : 18]>'


def step(op: str, value: str) -> Step:
    return Step(op, f"node_{value}", (), value, (value,))


def test_names_decide_after_the_quantizer_which_sorts_anew() -> None:
    floating = [step("Conv", "a"), step("Conv", "b"), step("Gemm", "y")]
    reduced = [step("Conv", "b"), step("Conv", "a"), step("Gemm", "y_QuantizeLinear_Input")]
    found = counterparts(reduced, floating, quantised=True)
    assert found == {"a": "a", "b": "b", "y_QuantizeLinear_Input": "y"}


def test_the_same_operators_in_the_same_order_decide_where_names_are_shifted() -> None:
    floating = [step("Add", "add"), step("Add", "add_1"), step("Gemm", "y")]
    reduced = [step("Add", "add_1"), step("Add", "add_2"), step("Gemm", "y")]
    found = counterparts(reduced, floating, quantised=False)
    assert found == {"add_1": "add", "add_2": "add_1", "y": "y"}


def test_weighted_operators_in_order_where_nothing_else_fits() -> None:
    floating = [step("Conv", "a"), step("Relu", "r"), step("Conv", "b"), step("Gemm", "y")]
    reduced = [step("Conv", "0"), step("Conv", "1"), step("Gemm", "2"), step("MatMul", "3")]
    assert counterparts(reduced, floating, False) == {"0": "a", "1": "b", "2": "y"}


def test_a_step_ends_behind_what_carries_its_value_on() -> None:
    body = """
        s = Constant <value = float {0.1}> ()
        z = Constant <value = uint8 {0}> ()
        a = Relu (x)
        q = QuantizeLinear (a, s, z)
        d = DequantizeLinear (q, s, z)
        y = Add (d, a)
    """
    model = parser.parse_model(f"{HEAD} g (float[n] x) => (float[n] y) {{ {body} }}")
    found = {step.value: step for step in steps_of(model)}
    assert [step.op for step in found.values()] == ["Input", "Relu", "Add"]
    assert found["a"].ends == ("a", "d")
    assert found["y"].inputs == ("d", "a")


def test_who_reads_only_the_size_does_not_hide_the_images(tmp_path: Path) -> None:
    """A vision transformer asks its input how many class tokens it needs."""
    body = """
        scale = Constant <value = float {0.1}> ()
        size = Shape (images)
        real = Cast <to = 1> (images)
        turned = Transpose <perm = [0, 3, 1, 2]> (real)
        scaled = Mul (turned, scale)
        more = Shape (scaled)
        y = Flatten (scaled)
    """
    model = parser.parse_model(f"{HEAD} g (uint8[n,4,4,3] images) => (float[n,48] y) {{ {body} }}")
    onnx.save(model, tmp_path / "a")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    std = 1 / 25.5
    for mean, passed in ((0.0, True), (0.2, False)):
        rule = Preprocess((4, 4), (mean,) * 3, (std,) * 3)
        stage, spot = check_preprocess("fp32", Shown(tmp_path / "a"), pixels, rule)
        assert (stage.passed, spot is None) == (passed, passed)
        assert stage.snr_db is not None
