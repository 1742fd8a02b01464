"""The verbs in several processes: as torchrun and accelerate launch start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
import psutil  # type: ignore[import-untyped]
import pytest

from edgekd.artifact import Artifact
from edgekd.cli import _launched
from edgekd.trainer.failing import DIED
from tests.cli.conftest import Command

PATIENCE_S = 240.0
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = (
    *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--main_process_port", "0"),
)
"""Without a GPU, edgekd takes the CPU; ``--cpu`` would start one process alone."""
SHORT = ("--size", "8", "--limit", "300", "--epochs", "2", "--json")


def launch(launcher: Sequence[str], *words: str | Path) -> subprocess.Popen[str]:
    """A verb in two processes; every one that is left is killed with the launcher's group."""
    command = [sys.executable, "-m", *launcher, "-m", "edgekd", *map(str, words)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def distilling(taught: Path, out: Path, *more: str) -> list[str | Path]:
    """The words of a short training of resnet8."""
    words: list[str | Path] = ["distill", "--teacher", taught, "--student", "resnet8", *SHORT]
    return [*words, "--output", out, *more]


def ended(running: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return running.communicate(timeout=PATIENCE_S)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)


def lines(said: str) -> list[str]:
    """What edgekd said, without what its launcher says of processes that ended."""
    return [line for line in said.splitlines() if line.startswith("edgekd")]


def test_a_student_and_its_baseline_in_two_processes(taught: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    running = launch(TORCHRUN, *distilling(taught, out, "--baseline", "epochs"))
    printed, said = ended(running)
    assert running.returncode == 0, said
    assert json.loads(printed)["gain"]["n"] == 359
    assert said.count("student resnet8:") == 1
    for folder in (out, out / "baseline"):
        made = Artifact.open(folder).manifest
        assert made["training"]["processes"] == 2
        assert made["metrics"]["test"]["n"] == 359
        assert not (folder / "training" / "checkpoint.pt").exists()


def test_other_verbs_are_refused_and_say_what_to_do(
    edgekd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    for verb in ("run", "compare", "scout", "export", "profile", "verify", "deploy", "device"):
        found = edgekd(verb)
        assert found.code == 2
        assert f"edgekd {verb} is for one process, and a launcher has started 2" in found.err
        assert "without torchrun or accelerate launch" in found.err


def test_only_the_main_process_prints(edgekd: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = sys.stdout
    for rank, is_told in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        found = edgekd("teach", "--teacher", "resnet8", "--print-recipe")
        monkeypatch.setattr(sys, "stdout", stdout)
        assert found.code == 0
        assert bool(found.out) is is_told


def test_an_error_that_nobody_else_tells_is_told_by_who_has_it(
    edgekd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_launched, "STARTING_S", 0.0)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    stdout = sys.stdout
    found = edgekd("teach", "--teacher", "resnet8", "--recipe", "none-of-this-name")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert found.code == 2
    assert found.err.startswith("edgekd, process 1 of 2: there is no recipe")


def test_who_is_ended_because_another_is_gone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher's signal comes while what another's end broke is still put away."""

    def ended_while(reason: Exception) -> click.Abort:
        try:
            try:
                try:
                    raise reason
                finally:
                    raise KeyboardInterrupt
            except KeyboardInterrupt as stopped:
                raise click.Abort from stopped
        except click.Abort as found:
            return found

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    lost = ended_while(RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:4711"))
    assert _launched.died(lost) == DIED
    assert _launched.died(lost.__cause__ or lost) == DIED
    assert _launched.died(ended_while(RuntimeError("no kernel"))) == ""
    assert _launched.died(KeyboardInterrupt()) == ""


def test_words_of_the_launcher_that_make_no_sense_are_refused(
    edgekd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    found = edgekd("teach", "--teacher", "resnet8")
    assert found.code == 2
    assert "RANK is '' and WORLD_SIZE '2'" in found.err


@pytest.mark.slow
def test_an_error_ends_all_with_one_message(taught: Path, tmp_path: Path) -> None:
    words = distilling(taught, tmp_path / "student", "--batch-size", "33")
    running = launch(TORCHRUN, *words)
    printed, said = ended(running)
    assert running.returncode == 1  # torchrun's own; it tells of the process's
    assert "exitcode  : 2" in said
    assert len(lines(said)) == 2, said
    assert "cannot be divided by 2. Set it to 32." in lines(said)[0]
    assert lines(said)[1] == "edgekd FAILED"  # torchrun's title
    assert printed == ""


@pytest.mark.slow
def test_accelerate_launches_it_as_well(tmp_path: Path) -> None:
    out = tmp_path / "teacher"
    running = launch(ACCELERATE, "teach", "--teacher", "resnet8", *SHORT, "--output", out)
    printed, said = ended(running)
    assert running.returncode == 0, said
    assert json.loads(printed)["path"] == str(out)
    assert Artifact.open(out).manifest["training"]["processes"] == 2


@pytest.mark.slow
def test_a_spread_teacher_teaches_the_same(taught: Path, tmp_path: Path) -> None:
    scores = []
    for name in ("true", "false"):
        words = distilling(taught, tmp_path / name, "--set", f"train.shard_teacher={name}")
        running = launch(TORCHRUN, *words)
        printed, said = ended(running)
        assert running.returncode == 0, said
        assert ("its parameters lie on 2 processes" in said) == (name == "true")
        scores.append(json.loads(printed)["test"]["loss"])
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


@pytest.mark.slow
def test_a_killed_process_is_started_again_and_ends_with_the_same_bits(
    taught: Path, tmp_path: Path
) -> None:
    more = ["--epochs", "12", "--batch-size", "16", "--restart"]
    more += ["--set", "train.checkpoint_minutes=0", "--set", "train.log_steps=5"]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    running = launch(TORCHRUN, *distilling(taught, whole, *more))
    _, said = ended(running)
    assert running.returncode == 0, said

    running = launch((*TORCHRUN, "--max-restarts", "3"), *distilling(taught, out, *more))
    try:
        wait_for(out / "training" / "checkpoint.pt", running)
        psutil.Process(running.pid).children()[-1].kill()
    finally:
        printed, said = ended(running)
    assert running.returncode == 0, said
    assert json.loads(printed)["path"] == str(out)
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    told = (out / "training" / "metrics.jsonl").read_text("utf-8").splitlines()
    steps = [json.loads(line)["step"] for line in told]
    assert steps == sorted(steps)


def wait_for(file: Path, running: subprocess.Popen[str]) -> None:
    """Until a file is there, and a moment more."""
    began = time.monotonic()
    while not file.exists():
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() - began < PATIENCE_S
        time.sleep(0.02)
    time.sleep(0.2)
