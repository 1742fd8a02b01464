"""The benchmark of the GPU, where there is none: what it counts, and what it says without one."""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

BENCH = Path(__file__).parents[1] / "tools" / "bench"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the benchmark's file holds; beside it lie those that it imports."""
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # which some set, for good
    return runpy.run_path(str(BENCH / "gpu.py"), run_name="bench")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(
    gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--quick"])
    assert gpu["main"]() == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert "no GPU here" in err


def test_the_work_is_counted_as_by_hand(gpu: dict[str, Any]) -> None:
    """Two operations a product; a student's step is three forward passes but for its images."""
    teacher, student = gpu["QUICK"].networks()
    forward = 2 * (teacher.macs() + 3 * student.macs())
    first = 2 * 16 * 16 * 9 * 3 * 16  # nobody asks for the gradient of an image
    assert gpu["work_per_image"](gpu["QUICK"]) == pytest.approx(forward - first, rel=0.001)


def test_a_table_says_what_was_timed(gpu: dict[str, Any]) -> None:
    taken = {"edgekd": [40.0, 50.0, 60.0], "edgekd, compiled": [20.0, 25.0, 30.0]}
    head, plain, compiled = gpu["table"](taken, 64, 10, 1e9, 1e14)
    assert head == "batch 64"
    assert "12,800 images/s" in plain
    assert "12.8% of bf16" in plain
    assert "2.000x [2.000, 2.000] of edgekd, compiled" in plain
    assert "25,600 images/s" in compiled


def test_a_run_is_its_start_and_the_median_epoch(gpu: dict[str, Any]) -> None:
    run = gpu["Run"](30.0, (0.5, 0.7, 0.6))
    assert run.whole(240) == pytest.approx(30 + 240 * 0.6)
    line = gpu["run_line"](run, 50_000, 3.227e9, 1e15)
    assert line.startswith("240 epochs of 50,000 images, batch 64: 174 s (30 s of it to start)")
    assert "38.72 PFLOP, 22.3% of bf16" in line


def test_everything_is_timed_in_turn(gpu: dict[str, Any], tmp_path: Path) -> None:
    """On the CPU, by the clock on the wall, and without compiling."""

    def elapsed(work: Callable[[], None]) -> float:
        began = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - began)

    given = gpu["QUICK"], 8, 32, tmp_path, 1, 2, elapsed
    taken = gpu["side_by_side"](*given, workers=(0,), compiles=False)
    assert list(taken) == ["edgekd", "null", "usual, 0 workers"]
    assert all(len(times) == 2 and min(times) > 0 for times in taken.values())
    place = tmp_path / "run"
    place.mkdir()
    trainer, task = gpu["_trainer"](gpu["QUICK"], 8, 32, place, compiled=False)
    spent = gpu["epochs_of"](trainer, task, 2)
    assert len(spent) == 2
    assert trainer.step == 8
