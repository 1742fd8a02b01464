"""Layers and shares: sums that are right, by nodes and by time."""

from __future__ import annotations

from typing import Any

import pytest

from edgekd.agent import layering
from edgekd.agent.runtimes import Layer
from edgekd.agent.runtimes._ort_profile import layers_of


def node(name: str, kind: str, start: float, us: float, provider: str = "CPU") -> dict[str, Any]:
    arguments = {"op_name": kind, "provider": provider}
    return {
        "cat": "Node", "name": f"{name}_kernel_time", "dur": us, "ts": start, "args": arguments
    }  # fmt: skip


END: dict[str, Any] = {"cat": "Session", "name": "model_run", "dur": 0, "ts": 0, "args": {}}


def test_cold_runs_and_one_that_was_interrupted_do_not_count() -> None:
    events: list[dict[str, Any]] = []
    for us in (500, 90, 10, 8000, 10, 12, 10):
        events += [node("a", "Conv", 0, us), node("b", "Relu", us, 5), END]
    assert layers_of(events) == [
        Layer("a", "Conv", "CPU", 0.010), Layer("b", "Relu", "CPU", 0.005)
    ]  # fmt: skip


def test_a_loop_counts_what_it_runs_once_and_all_of_its_turns() -> None:
    events: list[dict[str, Any]] = []
    for _ in range(4):
        inner = [node("sin", "Sin", 100 + 20 * n, 10) for n in range(4)]
        events += [*inner, node("loop", "Loop", 95, 90), node("cos", "Cos", 190, 7), END]
    found = {layer.name: layer.ms for layer in layers_of(events)}
    assert found == pytest.approx({"sin": 0.040, "loop": 0.050, "cos": 0.007})


def test_nested_loops_and_kernels_of_both_branches() -> None:
    events: list[dict[str, Any]] = []
    for turn in range(4):
        branch = node("b" if turn == 3 else "a", "Sin", 30, 10)
        events += [branch, node("if", "If", 25, 20), node("loop", "Loop", 20, 40), END]
    found = {layer.name: layer.ms for layer in layers_of(events)}
    assert found == pytest.approx({"a": 0.005, "b": 0.005, "if": 0.010, "loop": 0.020})


def test_a_single_run_is_better_than_none() -> None:
    assert layers_of([node("a", "Conv", 0, 10), END]) == [Layer("a", "Conv", "CPU", 0.01)]
    assert layers_of([]) == []


def test_shares_by_nodes_and_by_time() -> None:
    layers = [Layer("a", "Conv", "GPU", 1.0)] * 3 + [Layer("b", "NMS", "CPU", 9.0)]
    assert layering.shares(layers, "GPU") == {
        "node_share": {"CPU": 0.25, "GPU": 0.75},
        "time_share": {"CPU": 0.75, "GPU": 0.25},
    }
    assert layering.shares([], "GPU")["time_share"] == {"GPU": 1.0}
    rows = layering.table(layers)
    assert sum(row["pct"] for row in rows) == pytest.approx(100)
    assert rows[3] == {"name": "b", "type": "NMS", "ms": 9.0, "pct": 75.0}
    assert layering.table([]) == []
