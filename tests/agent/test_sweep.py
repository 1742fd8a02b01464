"""The sweep: which pairs, in which order, and what may be called best."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgekd.agent.children import Stage
from edgekd.agent.failures import AgentError
from edgekd.agent.job import Job
from edgekd.agent.sweep import Range, best, block_interval, configurations, sweep
from edgekd.agent.trials import trial

PAIRS_OF_4 = [(1, False), (2, False), (2, True), (3, False), (3, True), (4, False), (4, True)]


class Children(Stage):
    """Processes that are none: each pass over a pair takes what it is told to."""

    def child(self, steps: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
        assert steps[0] == "pin"
        place = int(steps[1].partition(":")[2])
        self.job["log"].append(place)
        ms = self.job["ms"][len([p for p in self.job["log"] if p == place]) - 1]
        threads, spinning = PAIRS_OF_4[place % len(PAIRS_OF_4)]
        if place % len(PAIRS_OF_4) in self.job["refuses"]:
            raise AgentError("provider", "it took fewer threads")
        value = ms[place % len(PAIRS_OF_4)]
        blocks = [value * (1 + 0.001 * n) for n in range(5)]
        row = {
            "threads": threads,
            "spinning": spinning,
            "state": "noisy" if value == 4 else "stable",
            "ms": blocks * 12,
            "block_ms": blocks,
            "block_cpu_ms": [threads * block * (2 if spinning else 0.9) for block in blocks],
        }
        return {"pin": {}, steps[1]: row}


def children(*ms: Sequence[float], refuses: Sequence[int] = (), seen: Any = None) -> Children:
    job = {"models": [{"name": "a"}, {"name": "b"}], "runtime": "ort", "log": []}
    told = seen.append if seen is not None else lambda event: None
    return Children(Path(), {**job, "ms": ms, "refuses": refuses}, {}, told)


def test_pairs() -> None:
    assert configurations(1, "ort") == [(1, False)]
    assert configurations(4, "ort") == PAIRS_OF_4
    assert configurations(4, "openvino") == [(n, False) for n in (1, 2, 3, 4)]
    assert [n for n, _ in configurations(12, "openvino")] == [1, 2, 4, 8, 12]
    assert len(configurations(6, "ort")) == 11


def test_two_passes_in_mirrored_order() -> None:
    events: list[dict[str, Any]] = []
    usual = [9, 6, 5, 5, 4, 5, 4.5]
    stage = children(usual, usual, seen=events)
    found = sweep(stage, 1, 4)
    there = [7 + place for place in range(7)]  # the second model's
    assert stage.job["log"] == there + there[::-1]
    assert events[3] == {
        "event": "progress", "step": "sweep", "model": "b", "done": 3, "of": 14
    }  # fmt: skip
    assert [(row["threads"], row["spinning"]) for row in found["rows"]] == PAIRS_OF_4
    row = found["rows"][4]
    assert set(row) == {"threads", "spinning", "median", "p95", "cpu_ms", "n", "state"}
    assert (row["n"], row["state"]) == (120, "noisy")
    assert row["median"] == pytest.approx(4.008)
    assert row["p95"] == pytest.approx(4.016)
    assert (found["best_latency"], found["best_cpu"]) == (4, 0)


def test_a_pair_within_the_noise_of_a_cheaper_one_is_not_best() -> None:
    usual = [9, 6, 5, 4.51, 5, 4.5, 4.5]
    assert sweep(children(usual, usual), 0, 4)["best_latency"] == 3
    assert best([Range(4.0, 4.2), Range(3.9, 4.05)]) == 0
    assert best([Range(4.0, 4.2), Range(3.7, 3.9)]) == 1
    fastest_last = [Range(10, 11), Range(9.5, 10.2), Range(9, 9.6)]
    assert best(fastest_last) == 1  # the first is slower than the fastest


def test_a_pair_that_differs_from_itself_by_more_is_not_best() -> None:
    assert best([Range(4.0, 4.2), Range(3.7, 3.9, apart=0.4)]) == 0
    assert best([Range(4.0, 4.2, apart=0.4), Range(3.7, 3.9)]) == 0
    first, second = [9, 6, 5, 5, 4.4, 5, 5.2], [9, 6, 5, 5, 4.9, 5, 5.2]
    found = sweep(children(first, second), 0, 4)
    assert found["best_latency"] == 2  # 4.65 is less than 5, but 4.4 and 4.9 are further apart
    assert found["rows"][4]["state"] == "drifting"


def test_passes_that_disagree_have_drifted_and_decide_nothing() -> None:
    hot = [9, 9, 9, 9, 9, 9, 9]
    found = sweep(children([9, 8, 7, 6, 5, 4.4, 4.2], hot), 0, 4)
    assert [row["state"] for row in found["rows"]] == ["stable", *["drifting"] * 6]
    assert found["best_latency"] == 0


def test_a_pair_that_the_runtime_refuses_is_left_out_and_told() -> None:
    events: list[dict[str, Any]] = []
    usual = [9, 6, 5, 5, 4.2, 5, 4.5]
    found = sweep(children(usual, usual, refuses=[3, 4], seen=events), 0, 4)
    assert [row["threads"] for row in found["rows"]] == [1, 2, 2, 4, 4]
    assert found["rows"][found["best_latency"]]["median"] == pytest.approx(4.509)
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert notes == ["left out of the sweep: it took fewer threads"] * 2
    with pytest.raises(AgentError, match="it took fewer threads"):
        sweep(children(usual, usual, refuses=range(7)), 0, 4)


def test_the_interval_leaves_out_an_outlier_where_it_may() -> None:
    assert block_interval([5, 1, 2, 3, 4, 6, 7, 8, 9, 99]) == (2, 9)
    assert block_interval([5, 1, 99]) == (1, 99)


def test_a_pass_is_short_and_has_the_threads_it_is_told(
    tiny: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny["classifier"](tmp_path / "a.onnx")
    policy = {
        "batch_size": 1, "threads": 1, "spinning": False, "provider": "CPUExecutionProvider",
        "input": "random", "seed": 0, "warmup_seconds": 0.01, "block_seconds": 0.01,
        "min_seconds": 0.01, "max_seconds": 60.0,
    }  # fmt: skip
    models = [{"name": "a", "path": "a.onnx"}] * 2
    table = {"runtime": "ort", "policy": policy, "models": models}
    (tmp_path / "job.json").write_text(json.dumps(table))
    monkeypatch.setattr("edgekd.agent.facts.physical_cores", lambda: 2)
    found = trial(Job.read(tmp_path / "job.json"), 1 * 3 + 2)
    assert (found["threads"], found["spinning"]) == (2, True)
    assert len(found["block_ms"]) == len(found["block_cpu_ms"]) == 5
    assert len(found["ms"]) >= 5  # a busy machine leaves time for few of them
    assert min(found["block_cpu_ms"]) > 0
    json.dumps(found)
