"""The whole command in a process of its own: stopped, killed, and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from edgekd.flow.training import distill
from edgekd.recipe import recipe_from

SETTINGS = {
    "data.size": "8",
    "data.limit": "300",
    "train.epochs": "20",
    "train.batch_size": "16",
    "train.precision": "fp32",
    "train.ema": "0.9",
    "train.checkpoint_minutes": "0",
    "train.log_steps": "10",
}
METHOD = "ce + 0.5*kd + 0..1*fitnet"
PATIENCE_S = 120.0


def start(teacher: Path, out: Path) -> subprocess.Popen[str]:
    """``edgekd distill``, the same command each time."""
    sets = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "edgekd", "distill", "--teacher", str(teacher)]
    command += ["--student", "resnet8", "--method", METHOD, *sets, "--json", "--output", str(out)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )


def wait_for_progress(process: subprocess.Popen[str], out: Path) -> None:
    """Until there is a checkpoint newer than those of an earlier sitting, and some more steps."""
    began, file = time.time(), out / "training" / "checkpoint.pt"
    while not (file.exists() and file.stat().st_mtime > began):
        assert process.poll() is None, process.communicate()[1]
        assert time.time() - began < PATIENCE_S
        time.sleep(0.005)
    time.sleep(0.05)


def metrics(out: Path) -> list[dict[str, Any]]:
    lines = (out / "training" / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if k != "images_per_s"} for x in lines]


def test_stopped_then_killed_then_finished(taught: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "student", tmp_path / "whole"

    stopped = start(taught, out)
    wait_for_progress(stopped, out)
    stopped.send_signal(signal.SIGINT)
    printed, said = stopped.communicate(timeout=PATIENCE_S)
    assert stopped.returncode == 130
    assert "The state is saved: give the same command again to go on." in said
    assert "Traceback" not in said
    assert printed == ""

    killed = start(taught, out)
    wait_for_progress(killed, out)
    killed.kill()
    killed.communicate(timeout=PATIENCE_S)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / "manifest.json").exists()
    assert 0 < metrics(out)[-1]["epoch"] < 20

    finished = start(taught, out)
    printed, said = finished.communicate(timeout=PATIENCE_S)
    assert finished.returncode == 0, said
    assert json.loads(printed)["path"] == str(out)

    overrides = [f"{key}={value}" for key, value in SETTINGS.items()]
    overrides += ["student.name=resnet8", f"method={METHOD}", "teacher.name=''"]
    recipe = recipe_from({}, [*overrides, f"teacher.weights='{taught}'"])
    distill(recipe, whole)
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert load_file(out / "model.safetensors")
    assert metrics(out) == metrics(whole)
    assert not list((out / "training").glob("checkpoint*"))
