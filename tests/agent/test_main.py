"""The agent as a program: jobs in, JSON lines out, on its own two feet."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.agent import __main__ as program
from edgekd.agent import children
from edgekd.agent.children import Ended, run_child
from edgekd.devices import pack_agent

AGENT = Path(program.__file__).parent
QUICK = {
    "batch_size": 1,
    "threads": 1,
    "spinning": False,
    "provider": "CPUExecutionProvider",
    "input": "photos",
    "image_size": None,
    "layers": False,
    "seed": 0,
    "warmup_seconds": 0.02,
    "block_seconds": 0.02,
    "min_seconds": 0.1,
    "max_seconds": 3.0,
}


def write_job(folder: Path, models: list[str], **more: Any) -> Path:
    policy = {**QUICK, **more.pop("policy", {})}
    job = {
        "agent": 2,
        "runtime": "ort",
        "policy": policy,
        "models": [{"name": name, "path": name} for name in models],
        **more,
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return path


def run_agent(job: Path, cwd: Path, **environment: str) -> tuple[int, list[dict[str, Any]]]:
    zipped = cwd / "agent.zip"
    pack_agent(zipped)
    done = subprocess.run(
        [sys.executable, "-m", "edgekd.agent", str(job)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(zipped), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_job_from_a_zip_in_another_folder(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    work.mkdir()
    elsewhere.mkdir()
    tiny["classifier"](work / "a.onnx")
    tiny["classifier"](work / "b.onnx", baked=False, seed=1)
    np.save(work / "images.npy", tiny["pictures"](20))
    np.save(work / "targets.npy", np.arange(20) % 6)
    job = write_job(
        work,
        ["a.onnx", "b.onnx"],
        images="images.npy",
        targets="targets.npy",
        preprocess={"mean": tiny["MEAN"], "std": tiny["STD"]},
    )
    code, events = run_agent(job, elsewhere)
    assert code == 0
    assert events[0]["event"] == "hello"
    assert events[0]["device"]["cpu"]
    result = events[-1]
    assert result["event"] == "result"
    assert [len(model["accuracy"]["predictions"]) for model in result["models"]] == [20, 20]
    assert [c["b"] for c in result["comparisons"]] == ["b.onnx"]
    kinds = {event["event"] for event in events}
    assert kinds == {"hello", "progress", "samples", "result"}
    samples = [event for event in events if event["event"] == "samples"]
    assert [(event["model"], event["null_pair"]) for event in samples] == [
        (0, False),
        (1, False),
        (None, True),
    ]
    assert len(samples[0]["wall_ns"]) == result["models"][0]["timing"]["n"]
    steps = [event["step"] for event in events if event["event"] == "progress"]
    assert steps[0] == "opening"
    assert steps[-1] == "accuracy"


def test_the_zip_is_whole_and_loads_nothing_else(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    zipped = tmp_path / "agent.zip"
    pack_agent(zipped)
    tiny["classifier"](tmp_path / "a.onnx")
    job = write_job(tmp_path, ["a.onnx"])
    script = (
        "import sys, json\n"
        f"sys.path.insert(0, {str(zipped)!r})\n"
        "from edgekd.agent import __main__ as program\n"
        "assert 'numpy' not in sys.modules\n"
        f"assert program.main([{str(job)!r}, 'inspect:0', 'bench']) == 0\n"
        "print(json.dumps({n: getattr(m, '__file__', None) for n, m in sys.modules.items()}))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], cwd="/", capture_output=True, text=True, check=True
    )
    modules = json.loads(said.stdout.splitlines()[-1])
    mine = {name: file for name, file in modules.items() if name.split(".")[0] == "edgekd"}
    assert all(file.startswith(str(zipped)) for file in mine.values())
    assert all(name == "edgekd" or name.startswith("edgekd.agent") for name in mine)
    assert not {"torch", "timm", "torchvision", "onnx", "PIL", "sklearn"} & set(modules)


def test_every_file_is_python_3_8() -> None:
    files = sorted(AGENT.rglob("*.py"))
    assert len(files) > 10
    for file in [*files, AGENT.parent / "__init__.py"]:  # all that travels
        ast.parse(file.read_text("utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize("missing", ["numpy", "onnxruntime"])
def test_a_missing_module_is_a_sentence(
    tiny: Mapping[str, Any], tmp_path: Path, missing: str
) -> None:
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    text = f"raise ModuleNotFoundError(\"No module named '{missing}'\")\n"
    (shadow / f"{missing}.py").write_text(text)
    tiny["classifier"](tmp_path / "a.onnx")
    pack_agent(tmp_path / "agent.zip")
    path = f"{tmp_path / 'agent.zip'}{os.pathsep}{shadow}"
    code, events = run_agent(write_job(tmp_path, ["a.onnx"]), tmp_path, PYTHONPATH=path)
    assert (code, events[-1]["event"], events[-1]["kind"]) == (1, "error", "module")
    assert f"-m pip install {missing}" in events[-1]["message"]


def test_a_corrupt_model_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    code, events = run_agent(write_job(tmp_path, ["a.onnx"]), tmp_path)
    assert (code, events[-1]["kind"]) == (1, "model")
    assert "a.onnx is not a whole ONNX model. Export it again" in events[-1]["message"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "is for agent None, this is 2"),
        ("nonsense", "expected a job of edgekd's"),
        (
            '{"agent": 2, "runtime": "ort", "policy": {}, "models": [{"name": "a", "path": "a"}]}',
            "which is not there",
        ),
    ],
)
def test_a_job_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    path = tmp_path / "job.json"
    path.write_text(text)
    assert program.main([str(path)]) == 1
    event = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (event["event"], event["kind"]) == ("error", "job")
    assert words in event["message"]


def test_a_child_that_dies_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(children, "run_child", lambda *_: Ended(-4, {}, None, ""))
    assert program.main([str(write_job(tmp_path, ["a.onnx"]))]) == 1
    event = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "ort with a.onnx stopped on an illegal instruction" in event["message"]


def test_how_a_child_ended_and_what_it_said() -> None:
    script = (
        "import os, signal, sys\n"
        "print('a library talks'); print('[1]')\n"
        'print(\'{"event": "progress", "step": "x"}\')\n'
        'print(\'{"event": "value", "step": "s", "value": 7}\', flush=True)\n'
        "print('last words', file=sys.stderr, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    events: list[dict[str, Any]] = []
    ended = run_child([], events.append, (sys.executable, "-c", script))
    assert (ended.code, ended.values, ended.error) == (-9, {"s": 7}, None)
    assert ended.stderr == "last words\n"
    assert events == [{"event": "progress", "step": "x"}]
