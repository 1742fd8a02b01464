"""The task ``profile`` with all that can be asked for, and what a model's part then has."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekd.agent.children import Stage
from edgekd.agent.profile_task import profile

ROOT = Path(__file__).parents[2]
KEYS = {
    "runtime", "engine", "inputs", "metadata", "threads", "affinity", "input", "clock", "load_ms",
    "first_ms", "peak_rss_bytes", "peak_device_bytes", "unified_memory", "layers", "timing",
    "verdict", "reopened", "accuracy", "sweep", "sustained", "energy", "answers",
}  # fmt: skip
POLICY = {
    "batch_size": 1, "threads": 0, "spinning": False, "provider": "CPUExecutionProvider",
    "input": "photos", "image_size": None, "layers": True, "seed": 0, "warmup_seconds": 0.02,
    "block_seconds": 0.01, "min_seconds": 0.05, "max_seconds": 2.0, "clock": "end_to_end",
    "sweep": True, "sustained_s": 0.3, "sustained_row_s": 0.15, "energy": True, "energy_s": 0.2,
    "idle_s": 0.1,
}  # fmt: skip


def encoded(path: Path, count: int) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for n in range(count):
            data = io.BytesIO()
            Image.new("RGB", (20 + n, 30), (25 * n, 90, 200)).save(data, "JPEG")
            file.writestr(f"{n}.jpg", data.getvalue())


def ask(folder: Path, **job: Any) -> list[dict[str, Any]]:
    (folder / "job.json").write_text(json.dumps({"agent": 2, "runtime": "ort", **job}))
    done = subprocess.run(
        [sys.executable, "-m", "edgekd.agent", "job.json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_everything_at_once(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    tiny["classifier"](tmp_path / "a.onnx", repeat=3)
    encoded(tmp_path / "images.zip", 10)
    np.save(tmp_path / "images.npy", tiny["pictures"](12))
    preprocess = {"mean": tiny["MEAN"], "std": tiny["STD"], "size": [8, 8]}
    events = ask(
        tmp_path,
        policy={**POLICY, "affinity": "" if cpu is None else str(cpu)},
        models=[{"name": "a", "path": "a.onnx"}],
        encoded="images.zip",
        images="images.npy",
        preprocess={**preprocess, "interpolation": "bilinear", "crop_pct": 1.0},
    )
    assert events[-1]["event"] == "result", events[-1]
    assert set(events[-1]["moments"]) == {"before", "during", "after"}
    (model,) = events[-1]["models"]
    assert set(model) == KEYS
    assert (model["clock"], model["input"]) == ("end_to_end", "encoded images")
    if cpu is not None:
        assert (model["affinity"], model["threads"]) == ([cpu], 1)
        (row,) = model["sweep"]["rows"]
        assert (row["threads"], row["spinning"]) == (1, False)
        assert row["n"] >= 2 * 5 * 10
    assert model["sweep"]["best_latency"] == model["sweep"]["best_cpu"] == 0
    assert [row["n"] > 0 for row in model["sustained"]] == [True, True]
    assert (model["peak_device_bytes"], model["unified_memory"]) == (None, False)
    if model["energy"] is None:  # as on most machines: and then it says why
        assert any("energy is n/a" in text or "meter" in text for text in _reasons(model))
    assert len(model["accuracy"]["predictions"]) == 12
    assert [len(logits) for logits in model["answers"]] == [6] * 8
    assert sum(layer["pct"] for layer in model["layers"]) == pytest.approx(100)
    steps = [event["step"] for event in events if event["event"] == "progress"]
    order = ["opening", "timing", "energy", "sweep", "sustained", "accuracy"]
    assert list(dict.fromkeys(steps)) == order
    rows = [event["row"] for event in events if event.get("step") == "sustained"]
    assert rows == model["sustained"]


def _reasons(model: Mapping[str, Any]) -> list[str]:
    return list(model["verdict"]["reasons"])


def test_cpus_that_are_not_there_are_a_sentence(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    tiny["classifier"](tmp_path / "a.onnx")
    policy = {**POLICY, "clock": "inference", "affinity": "4095"}
    events = ask(tmp_path, policy=policy, models=[{"name": "a", "path": "a.onnx"}])
    assert (events[-1]["event"], events[-1]["kind"]) == ("error", "job")
    assert "the CPUs 4095 were asked for" in events[-1]["message"]


class Children(Stage):
    """Processes that are none."""

    def child(self, steps: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
        assert steps[0] == "pin"
        self.job["asked"].append([*steps[1:], *names])
        values: dict[str, Any] = {"pin": {"cpus": [3], "cores": 1}}
        for step in steps[1:]:
            values[step] = dict(SAID.get(step.partition(":")[0], {}))
        return values


VERDICT = {"state": "noisy", "reasons": ["loud"]}
SAID: dict[str, dict[str, Any]] = {
    "bench": {
        "timings": [{"n": 1}, {"n": 2}], "verdicts": [VERDICT, VERDICT], "comparisons": [],
        "reopened": True, "during": {},
    },
    "inspect": {"clock": "inference"},
    "sustained": {"rows": [{"minute": 1}], "found": [["throttled", "it became 9% slower"]]},
    "energy": {"energy": None, "reasons": ["no meter: energy is n/a"]},
}  # fmt: skip


def stage(**policy: Any) -> Children:
    models = [{"name": "a"}, {"name": "b"}]
    job = {"models": models, "runtime": "openvino", "policy": policy, "asked": []}
    return Children(Path(), job, {}, lambda event: None)


def test_what_is_found_later_changes_the_verdict() -> None:
    found = profile(stage(sustained_s=60.0, energy=True))
    for model in found["models"]:
        assert model["verdict"] == {
            "state": "throttled",
            "reasons": ["it became 9% slower", "no meter: energy is n/a", "loud"],
        }
        assert (model["sustained"], model["energy"]) == ([{"minute": 1}], None)
        assert model["affinity"] == [3]


def test_each_model_has_processes_of_its_own_but_for_the_timing() -> None:
    given = stage(sustained_s=60.0, energy=True)
    profile(given)
    assert given.job["asked"] == [
        ["inspect:0", "a"], ["inspect:1", "b"], ["bench", "a", "b"],
        ["energy:0", "a"], ["sustained:0", "a"], ["energy:1", "b"], ["sustained:1", "b"],
    ]  # fmt: skip


def test_what_was_not_asked_for_is_not_there() -> None:
    found = profile(stage())
    (model, _) = found["models"]
    assert (model["sweep"], model["sustained"], model["energy"]) == (None, [], None)
    assert model["verdict"] == VERDICT
