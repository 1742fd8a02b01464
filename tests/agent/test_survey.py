"""The survey of a device: of this one, really, by the agent as it travels."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgekd.agent import meters, packages, survey, turns
from edgekd.agent.children import Stage
from edgekd.devices import pack_agent


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the packages, whose imports take their time."""
    absent: dict[str, Any] = {"version": None, "path": None, "error": "x", "providers": []}
    names = ("onnxruntime", "onnxruntime-gpu")
    monkeypatch.setattr(packages, "look", lambda: dict.fromkeys(names, absent))


def surveyed(folder: Path, **device: Any) -> dict[str, Any]:
    return survey.survey(Stage(folder / "job.json", {}, device, lambda event: None))


def test_this_machine_by_the_agent_as_it_travels(tmp_path: Path) -> None:
    pack_agent(tmp_path / "agent.zip")
    (tmp_path / "job.json").write_text('{"agent": 2, "task": "survey"}')
    done = subprocess.run(
        [sys.executable, "agent.zip", "job.json"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["event"] == "result"
    assert result["device"]["cpu"]
    assert result["python"].split(".")[0] == "3"
    assert result["executable"] == sys.executable
    assert (result["venv_possible"], result["writable"], result["lock"]) == (True, True, None)
    assert result["disk_free_bytes"] > 0
    assert result["uptime_s"] > 0
    assert set(result["packages"]) == {one for many in packages.PACKAGES.values() for one in many}
    for name in ("numpy", "onnxruntime"):
        assert result["packages"][name]["error"] is None
        assert Path(result["packages"][name]["path"]).is_file()
    assert "CPUExecutionProvider" in result["packages"]["onnxruntime"]["providers"]
    assert result["moment"]["free_bytes"] > 0


@pytest.mark.usefixtures("quick")
def test_who_uses_the_device(tmp_path: Path) -> None:
    assert surveyed(tmp_path)["lock"] is None
    job = {"owner": "ada@laptop", "models": [{"name": "net.onnx"}], "policy": {}}
    with turns.take_turn(tmp_path, job, lambda event: None):
        assert surveyed(tmp_path)["lock"].startswith("ada@laptop has been using this device since")
    assert (
        surveyed(tmp_path)["lock"] is None
    )  # what was written about it stays, and is not believed
    with (tmp_path / turns.LOCK).open("a") as file:  # looking at a lock leaves it free
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.usefixtures("quick")
def test_what_is_wrong_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "SCARCE_BYTES", 2**62)
    monkeypatch.setattr(meters, "find", lambda: meters.Found([], ["the meter rapl: no"]))
    found = surveyed(tmp_path, governor="powersave")
    warned = found["warnings"]
    assert "the CPU governor is powersave; nothing was changed" in warned
    assert "the meter rapl: no" in warned
    assert any(text.startswith("only ") and str(tmp_path) in text for text in warned)
    assert found["meters"] == []


@pytest.mark.usefixtures("quick")
def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    found = surveyed(tmp_path / "gone")
    assert (found["disk_free_bytes"], found["writable"], found["lock"]) == (None, False, None)


def test_wheels_this_python_needs() -> None:
    found = survey.python()
    assert found["tag"] == f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert found["bits"] in (32, 64)
    assert found["machine"] == os.uname().machine
