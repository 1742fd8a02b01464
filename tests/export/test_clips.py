"""Clips: which values only they read, and what of those counts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, parser

from edgekd.export._clips import Clipped, bounds_by_node, clipped
from edgekd.export._explaining.levels import against_file
from edgekd.export._explaining.reasons import reason_for
from edgekd.export._explaining.stages import Spot
from edgekd.export._explaining.steps import steps_of
from edgekd.export._explaining.tensors import Shown
from edgekd.preprocess import Preprocess

RULE = Preprocess((4, 4), (0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
CONSTANTS = """
    zero = Constant <value = float {0.0}> ()
    one = Constant <value = float {1.0}> ()
    least = Constant <value = float {0.25}> ()
"""


def graph(body: str) -> ModelProto:
    head = '<ir_version: 8, opset_import: ["" : 18]>'
    return parser.parse_model(f"{head} g (float[n,3,4,4] x) => (float[n,k] y) {{ {body} }}")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a = Abs (x) b = Relu (a) y = Flatten (b)", {"a": Clipped("b", 0, math.inf)}),
        (
            "a = Abs (x) b = Relu (a) c = Clip (b, least, one) y = Flatten (c)",
            {"a": Clipped("c", 0.25, 1), "b": Clipped("c", 0.25, 1)},
        ),
        (
            "a = Abs (x) b = Clip (a, , one) c = Clip (b, least) y = Flatten (c)",
            {"a": Clipped("c", 0.25, 1), "b": Clipped("c", 0.25, math.inf)},
        ),
        ("a = Abs (x) b = Relu (a) c = Add (a, b) y = Flatten (c)", {}),
        ("a = Abs (x) m = ReduceMax (x) b = Clip (a, zero, m) y = Flatten (b)", {}),
    ],
)
def test_ends_of_clips(body: str, expected: dict[str, Clipped]) -> None:
    found = clipped(graph(CONSTANTS + body).graph)
    assert {name: end for name, end in found.items() if name != "x"} == expected


def test_bounds_computed_at_run_time_are_unknown() -> None:
    body = "m = ReduceMax (x) b = Clip (x, zero, m) c = Clip (b, zero, one) y = Flatten (c)"
    assert bounds_by_node(graph(CONSTANTS + body).graph) == {"b": None, "c": (0, 1)}


def test_what_is_clipped_anyway_is_no_error(tmp_path: Path) -> None:
    """The integers end at 1 as the clip does, and most values are beyond."""
    rest = "r = Relu (c{end}) k = Clip (r, zero, one) y = Flatten (k)"
    pair = "q = QuantizeLinear (c, scale, z) cd = DequantizeLinear (q, scale, z)"
    start = f"{CONSTANTS} c = Add (x, one)"
    files = {"f": f"{start} {rest.format(end='')}", "q": f"{start} {pair} {rest.format(end='d')}"}
    for name, body in files.items():
        model = graph(body)
        numbers = {"scale": np.float32(1 / 255), "z": np.uint8(0)}
        stored = [onnx.numpy_helper.from_array(np.array(v), n) for n, v in numbers.items()]
        model.graph.initializer.extend(stored)
        onnx.save(model, tmp_path / name)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    reduced, floating = Shown(tmp_path / "q"), Shown(tmp_path / "f")
    levels = against_file(reduced, floating, {"cd": "c", "k": "k"}, pixels, RULE)
    assert levels["cd"] == pytest.approx(levels["k"])
    assert levels["cd"] > 40
    (step,) = (s for s in steps_of(reduced.model) if s.value == "c")
    spot, feed = Spot("int8", "Add", step.node, "c", 40, 16), np.zeros((1, 3, 4, 4), np.float32)
    feed += np.linspace(-5, 5, 48, dtype=np.float32).reshape(feed.shape)
    assert reason_for(spot, step, tmp_path / "f", feed, reduced.model, {"c": "c"}) == ""
