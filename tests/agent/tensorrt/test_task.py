"""The agent's tasks ``describe`` and ``build``, and ``profile`` with an engine, as a program."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgekd.agent.children import ROOT
from edgekd.agent.failures import AgentError
from edgekd.agent.tensorrt.makers import own_folder

BUILD = {
    "onnx": "model.onnx",
    "precision": "fp32",
    "inputs": {"x": [8, 8, 3]},
    "batch": [1, 2, 8],
    "workspace_mib": 64,
    "dla_core": None,
    "typed": True,
    "share": 0.5,
}
POLICY = {
    "batch_size": 2,
    "threads": 1,
    "spinning": False,
    "provider": "CPUExecutionProvider",  # the policy's default; of ONNX Runtime only
    "input": "photos",
    "layers": False,
    "seed": 0,
    "warmup_seconds": 0.02,
    "block_seconds": 0.02,
    "min_seconds": 0.1,
    "max_seconds": 2.0,
}


def run_agent(
    folder: Path, job: dict[str, Any], environment: dict[str, str]
) -> tuple[int, list[dict[str, Any]]]:
    (folder / "job.json").write_text(json.dumps({"agent": 2, **job}))
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "edgekd.agent", "job.json"],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has a GPU")
def test_this_machine_has_no_gpu_and_says_so(graph: Callable[..., Path], tmp_path: Path) -> None:
    graph()
    code, events = run_agent(tmp_path, {"task": "describe"}, {})
    assert (code, events[-1]["event"]) == (0, "result")
    assert "there is no NVIDIA driver here" in events[-1]["error"]
    assert events[-1]["cuda"] is None
    assert events[-1]["device"]["cpu"]
    code, events = run_agent(tmp_path, {"task": "build", "build": BUILD}, {})
    assert (code, events[-1]["event"], events[-1]["kind"]) == (1, "error", "gpu")
    assert "--device" in events[-1]["message"]


def test_a_device_says_what_it_has(
    environment: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    code, events = run_agent(tmp_path, {"task": "describe"}, environment("8.5.2.2"))
    assert code == 0
    assert [event["event"] for event in events] == ["hello", "result"]
    assert events[-1]["tensorrt"]["python"] == "8.5.2.2"
    assert events[-1]["cuda"]["devices"] == [{"name": "Orin", "capability": "8.7"}]


@pytest.mark.parametrize(("version", "precision"), [("8.5.2.2", "fp16"), ("11.4.0.106", "int8")])
def test_an_engine_is_built_and_answers(
    version: str,
    precision: str,
    graph: Callable[..., Path],
    environment: Callable[..., dict[str, str]],
    tiny: dict[str, Any],
    tmp_path: Path,
) -> None:
    typed = not version.startswith("8")
    file = graph(precision if typed else "fp32")
    images = tiny["pictures"](11)
    np.save(tmp_path / "images.npy", images)
    job = {
        "task": "build",
        "build": {**BUILD, "precision": precision, "typed": typed},
        "images": "images.npy",
        "metadata": {"edgekd.version": "0"},
    }
    code, events = run_agent(tmp_path, job, environment(version))
    assert code == 0, events[-1]
    result = events[-1]
    assert result["built"] is True
    assert result["inspection"]["label"] == precision
    assert result["key"]["tensorrt"] == version
    assert result["timing_cache"] == "new"
    assert [event["text"] for event in events if event["event"] == "note"] == [
        f"building {result['engine']}"
    ]
    logits = np.load(tmp_path / result["logits"])
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    batches = [images[:8], images[8:]]
    expected = np.concatenate([session.run(None, {"x": batch})[0] for batch in batches])
    np.testing.assert_array_equal(logits, expected)
    assert list((tmp_path / "cache/edgekd/tensorrt").glob(f"orin-tensorrt-{version}.cache"))


@pytest.mark.parametrize("release", ["8.5.2", "11.1.0"])
def test_a_device_with_trtexec_alone_builds_and_answers(
    release: str,
    graph: Callable[..., Path],
    program_alone: Callable[..., dict[str, str]],
    tiny: dict[str, Any],
    tmp_path: Path,
) -> None:
    typed = not release.startswith("8")
    file = graph("fp16" if typed else "fp32")
    images = tiny["pictures"](11)
    np.save(tmp_path / "images.npy", images)
    job = {
        "task": "build",
        "build": {**BUILD, "precision": "fp16", "typed": typed},
        "images": "images.npy",
        "metadata": {"edgekd.version": "0"},
        "dtype": "uint8",
    }
    code, events = run_agent(tmp_path, job, program_alone(release))
    assert code == 0, events[-1]
    result = events[-1]
    assert result["built"] is True
    assert (result["maker"], result["typed"]) == ("trtexec", typed)
    assert result["inspection"]["label"] == "fp16"
    assert result["key"]["tensorrt"] == release
    assert result["key"]["gpu"] == "Orin"
    assert result["key"]["options"]["batch"] == [1, 2, 8]
    assert result["timing_cache"] == "new"
    assert [event["text"] for event in events if event["event"] == "note"] == [
        f"building {result['engine']}",
        "2 calls of trtexec follow, one for each 8 images",
    ]
    plan = tmp_path / result["engine"]
    assert plan.read_bytes().endswith(file.read_bytes())
    side = json.loads((tmp_path / f"{result['engine']}.json").read_text())
    assert side["key"] == result["key"]
    assert side["metadata"] == {"edgekd.version": "0"}
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": images})
    logits = np.load(tmp_path / result["logits"])
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)  # six digits in JSON
    calls = (plan.with_suffix(".answers") / "calls.txt").read_text().splitlines()
    assert [json.loads(call)["--shapes"] for call in calls] == ["x:8x8x8x3"] * 2
    left = [one.name for one in tmp_path.rglob("*") if one.suffix in (".plan", ".bin")]
    assert left == [plan.name]
    assert not list(tmp_path.glob("*.trtexec"))


@pytest.mark.parametrize(
    ("scene", "change", "kind", "words"),
    [
        ("works", {"precision": "int8"}, "precision", "int8 was asked for and the engine is fp16"),
        ("no engine", {}, "output", "wrote no model.plan"),
    ],
)
def test_a_failure_of_trtexec_leaves_no_engine(
    scene: str,
    change: dict[str, Any],
    kind: str,
    words: str,
    graph: Callable[..., Path],
    program_alone: Callable[..., dict[str, str]],
    tmp_path: Path,
) -> None:
    graph()
    job = {"task": "build", "build": {**BUILD, "precision": "fp16", "typed": False, **change}}
    code, events = run_agent(tmp_path, job, program_alone("8.5.2", scene))
    assert (code, events[-1]["kind"]) == (1, kind)
    assert words in events[-1]["message"]
    assert not list(tmp_path.rglob("*.plan"))
    # the log of a build that failed stays; one that went well and was refused after has said it all
    assert len(list(tmp_path.glob("model.*.trtexec/trtexec.log"))) == (scene == "no engine")


def test_builds_of_one_graph_at_the_same_time_have_folders_of_their_own(tmp_path: Path) -> None:
    first, second = (own_folder(tmp_path / "model.onnx") for _ in range(2))
    assert first != second
    assert first.is_dir()
    assert second.is_dir()
    with pytest.raises(AgentError, match="cannot be written to"):
        own_folder(tmp_path / "none" / "model.onnx")


def test_a_wrong_precision_comes_to_the_host_as_an_error(
    graph: Callable[..., Path], environment: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    graph("fp16")
    job = {"task": "build", "build": {**BUILD, "precision": "fp16"}}
    code, events = run_agent(tmp_path, job, environment("10.3.0", obedient=False))
    assert (code, events[-1]["kind"]) == (1, "precision")
    assert "fp16 was asked for and the engine is fp32" in events[-1]["message"]


def test_a_library_that_ends_the_process_is_a_sentence(
    graph: Callable[..., Path], environment: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    graph()
    crash = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"
    (tmp_path / "crashing").mkdir()
    (tmp_path / "crashing/tensorrt.py").write_text(crash)
    given = environment("10.3.0")
    with (tmp_path / "site/sitecustomize.py").open("a") as file:
        file.write("import sys\ndel sys.modules['tensorrt']\n")
    given["PYTHONPATH"] += f"{os.pathsep}{tmp_path / 'crashing'}"
    code, events = run_agent(tmp_path, {"task": "build", "build": BUILD, "runtime": "trt"}, given)
    assert (code, events[-1]["kind"]) == (1, "crash")
    assert "trt with model.onnx crashed (SIGSEGV" in events[-1]["message"]
    code, events = run_agent(tmp_path, {"task": "describe"}, given)
    assert code == 0
    assert "SIGSEGV" in events[-1]["error"]


@pytest.mark.parametrize("clock", ["inference", "compute"])
def test_an_engine_is_measured_like_any_model(
    clock: str,
    graph: Callable[..., Path],
    environment: Callable[..., dict[str, str]],
    tiny: dict[str, Any],
    tmp_path: Path,
) -> None:
    graph()
    np.save(tmp_path / "images.npy", tiny["pictures"](40))
    job = {
        "runtime": "trt",
        "policy": {**POLICY, "clock": clock, "sweep": True},
        "models": [{"name": "model.onnx", "path": "model.onnx"}],
        "images": "images.npy",
    }
    code, events = run_agent(tmp_path, job, environment("10.3.0"))
    assert code == 0, events[-1]
    (model,) = events[-1]["models"]
    gpus_own = model["timing"]["median"]["value"] == model["timing"]["min"] == 3.0
    assert (model["clock"], gpus_own) == (clock, clock == "compute")
    assert model["peak_device_bytes"] == 2 * (8 * 8 * 3 + 4 * 6)
    assert model["unified_memory"] is False
    assert model["sweep"] is None  # there are no threads to try
    assert len(model["answers"]) == 8
    assert model["runtime"]["name"] == "tensorrt"
    assert model["runtime"]["node_share"] == {"TensorRT": 1.0}
    (plan,) = tmp_path.glob("model.*.plan")
    assert model["engine"]["sha256"] == hashlib.sha256(plan.read_bytes()).hexdigest()
    assert (model["engine"]["precision"], model["engine"]["rebuilt"]) == ("fp32", None)
    assert model["layers"] is None  # looked at for the node share, and not asked for
    assert len(model["accuracy"]["predictions"]) == 40
    notes = [event for event in events if event["event"] == "note"]
    assert len(notes) == 1  # built once, by a process that measures nothing


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"task": "polish"}, "'polish'; expected one of profile, describe, build"),
        ({"task": "build", "build": {**BUILD, "onnx": "gone.onnx"}}, "which is not there"),
    ],
)
def test_a_job_that_is_none_is_a_sentence(job: dict[str, Any], words: str, tmp_path: Path) -> None:
    code, events = run_agent(tmp_path, job, {})
    assert (code, events[-1]["kind"]) == (1, "job")
    assert words in events[-1]["message"]
