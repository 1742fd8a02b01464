"""Why a lower precision is not faster."""

from __future__ import annotations

from typing import Any

from edgekd.flow.reasons import why_slow

EXPORT: dict[str, Any] = {
    "precision_asked": "int8",
    "types": {
        "Conv": {"int8": 50, "fp32": 2},
        "HardSwish": {"fp32": 18},
        "HardSigmoid": {"fp32": 9},
        "Add": {"int8": 6},
    },
}
LAYERS = [
    {"type": "QLinearConv", "ms": 6.0},
    {"type": "QuantizeLinear", "ms": 2.0},
    {"type": "DequantizeLinear", "ms": 1.0},
    {"type": "HardSwish", "ms": 1.0},
]


def test_names_what_stays_float_and_what_converting_costs() -> None:
    assert why_slow(EXPORT, LAYERS) == (
        ": 18 HardSwish and 9 HardSigmoid nodes stay float; converting between precisions takes "
        "30 % of its time"
    )


def test_says_nothing_that_was_not_found() -> None:
    whole = {"precision_asked": "int8", "types": {"Conv": {"int8": 5}}}
    assert why_slow(whole, None) == ""
    assert why_slow(whole, LAYERS[:1]) == ""
    assert why_slow({}, []) == ""


def test_half_floats_are_no_floats_that_stay() -> None:
    half = {"precision_asked": "fp16", "types": {"Conv": {"fp16": 5}, "Softmax": {"fp32": 1}}}
    assert why_slow(half, None) == ": 1 Softmax nodes stay float"
