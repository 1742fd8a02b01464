"""What a look at one model finds: its memory, its loading, its answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekd.agent import clocks, facts, feeds, steps
from edgekd.agent.failures import AgentError
from edgekd.agent.job import Job

POLICY = {
    "batch_size": 2, "threads": 1, "spinning": False, "provider": "CPUExecutionProvider",
    "input": "random", "image_size": None, "seed": 0, "max_seconds": 30.0,
}  # fmt: skip


def job(folder: Path, **policy: Any) -> Job:
    models = [{"name": "a", "path": "a.onnx"}]
    table = {"runtime": "ort", "policy": {**POLICY, **policy}, "models": models}
    (folder / "job.json").write_text(json.dumps(table))
    return Job.read(folder / "job.json")


def looked_at(given: Job) -> dict[str, Any]:
    return steps.inspect(given, 0, lambda event: None)


@pytest.mark.parametrize("source", ["random", "photos"])
def test_memory_is_read_with_one_input_made(
    source: str, tiny: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny["classifier"](tmp_path / "a.onnx")
    made: list[int] = []
    random, turned = feeds.random_feed, feeds.to_input

    def counted_random(*given: Any) -> Any:
        made.append(1)
        return random(*given)

    def counted_turned(*given: Any) -> Any:
        made.append(1)
        return turned(*given)

    def peak() -> int:
        made.append(-100)
        return 7

    monkeypatch.setattr(feeds, "random_feed", counted_random)
    monkeypatch.setattr(feeds, "to_input", counted_turned)
    monkeypatch.setattr(facts, "peak_rss_bytes", peak)
    found = looked_at(job(tmp_path, input=source))
    assert found["peak_rss_bytes"] == 7
    assert made == [1, -100, *[1] * 8]
    assert len(found["answers"]) == 8


def test_a_logit_that_is_no_number_is_none_and_the_others_are_told(
    tiny: Mapping[str, Any], tmp_path: Path
) -> None:
    model = onnx.load(tiny["classifier"](tmp_path / "a.onnx"))
    (bias,) = [one for one in model.graph.initializer if one.name == "bias"]
    values = numpy_helper.to_array(bias).copy()
    values[:2] = np.nan, np.inf
    bias.CopyFrom(numpy_helper.from_array(values, "bias"))
    onnx.save(model, tmp_path / "a.onnx")
    answers = looked_at(job(tmp_path))["answers"]
    assert len(answers) == 8
    for logits in answers:
        assert logits[:2] == [None, None]
        assert all(isinstance(value, float) for value in logits[2:])
    json.dumps(answers, allow_nan=False)


def test_pillow_is_imported_before_the_loading_is_timed(
    tiny: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny["classifier"](tmp_path / "a.onnx")
    given = job(tmp_path, clock="end_to_end", input="photos")
    monkeypatch.setitem(sys.modules, "PIL", None)  # so that importing it fails
    with pytest.raises(AgentError, match="has no Pillow"):
        clocks.entrant(given, given.models[0])  # not when it is opened
