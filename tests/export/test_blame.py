"""Which node is blamed, given how good each value is: graphs of a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from edgekd.export._explaining import comparing
from edgekd.export._explaining.blame import first_of, spots_of, worst_of
from edgekd.export._explaining.comparing import Case, runtime_stage
from edgekd.export._explaining.stages import Stage
from edgekd.export._explaining.steps import Step
from edgekd.preprocess import Preprocess


def step(op: str, value: str, *inputs: str) -> Step:
    return Step(op, f"node_{value}", inputs, value, (value,))


def first(steps: list[Step], levels: dict[str, float]) -> str | None:
    spots = spots_of("int8", steps, levels)
    found = first_of("int8", steps, spots, steps[-1].value)
    return found.tensor if found else None


CHAIN = [
    step("Input", "x"),
    step("Conv", "a", "x"),
    step("Conv", "b", "a"),
    step("Conv", "c", "b"),
    step("Gemm", "y", "c"),
]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ((36, 4, 3, 2), "b"),  # a fall
        ((36, 20, 12, 9), "c"),  # no fall of 10 dB at once among the bad: where it becomes bad
        ((36, 4, 30, 9), "y"),  # what comes back is no cause
        ((-200, -200, -200, -200), "a"),
    ],
)
def test_the_first_error_that_reaches_the_output(levels: Any, expected: str) -> None:
    assert first(CHAIN, dict(zip("abcy", levels, strict=True))) == expected


def test_a_value_without_counterpart_is_looked_through() -> None:
    spots = spots_of("int8", CHAIN, {"a": 30.0, "c": 12.0, "y": 8.0})
    assert [(s.tensor, s.before_db) for s in spots] == [("a", 40), ("c", 30), ("y", 12)]
    assert first(CHAIN, {"a": 30.0, "c": 12.0, "y": 8.0}) == "c"


def test_who_only_moves_is_blamed_for_its_quantisation_alone() -> None:
    move = Step("Gather", "node_m", ("a",), "m", ("m_dq",))
    steps = [*CHAIN[:2], move, step("Gemm", "y", "m_dq")]
    assert first(steps, {"a": 25.0, "m": 6.0, "m_dq": 6.0, "y": 5.0}) == "y"
    assert first(steps, {"a": 25.0, "m": 25.0, "m_dq": 6.0, "y": 5.0}) == "m"


def test_a_branch_that_hardly_counts_is_not_among_the_worst() -> None:
    steps = [*CHAIN[:2], step("Mul", "tiny", "a"), step("Add", "sum", "a", "tiny")]
    steps += [step("Conv", "b", "sum"), step("Gemm", "y", "b")]
    levels = {"a": 38.0, "tiny": 0.0, "sum": 37.0, "b": 25.0, "y": 24.0}
    found = worst_of(steps, spots_of("int8", steps, levels))
    assert [spot.tensor for spot in found] == ["b", "a", "tiny", "y"]
    assert first(steps, levels | {"y": 14.0}) != "tiny"


class Plain:
    """A file whose answers, node by node, are given."""

    output = "y"

    def each(self, pixels: Any, preprocess: Preprocess) -> list[dict[str, Any]]:
        return [{"y": row[None]} for row in LOGITS]


LOGITS = np.random.default_rng(0).normal(size=(8, 10)).astype(np.float32)


@pytest.mark.parametrize(
    ("noise", "reduced_db", "passed"),
    [(0.01, 30.0, True), (1.0, 30.0, False), (1.0, -5.0, True), (np.nan, 30.0, False)],
)
def test_fused_kernels_are_at_fault_where_they_cost_more_than_int8(
    monkeypatch: pytest.MonkeyPatch, noise: float, reduced_db: float, passed: bool
) -> None:
    wrong = LOGITS + noise * np.random.default_rng(1).normal(size=LOGITS.shape)
    monkeypatch.setattr(comparing, "run_file", lambda *_: wrong)
    rule = Preprocess((2, 2), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    pixels = np.zeros((8, 2, 2, 3), np.uint8)
    case = Case(nn.Identity(), rule, pixels, Path("f"), "int8", Path("g"))
    reduced = Stage("int8", "", reduced_db, 15.0, reduced_db > 15)
    plain: Any = Plain()
    stage, _, spot = runtime_stage(case, plain, pixels, reduced)
    assert (stage.passed, spot is None) == (passed, passed)
