"""Several processes train what one process trains."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from edgekd.errors import UsageError
from edgekd.trainer import collective
from edgekd.trainer.accord import Accord
from edgekd.trainer.starting import check_shares
from tests.trainer.pair import course, task_of

Courses = dict[str, dict[str, Any]]

KD: dict[str, Any] = {"method": "ce + kd", "teacher": "resnet14", "clip": 1.0, "ema": 0.9}
RARELY = {**KD, "log_steps": 1000}
EXACT = 1e-9
"""In float64, one process and two differ by about 1e-12 after a few steps."""
QUICK: Courses = {
    "whole": KD,
    "cut": {**KD, "stop": 4},
    "left": {**KD, "stop": 4},
    "cut again": KD,
    "rarely": {**RARELY, "agree_s": 0.0, "stop": 3},
    "rarely again": RARELY,
    "gathered": {"method": "ce + rkd + crd", "teacher": "resnet14", "steps": 2},
    "adapters": {"method": "fitnet + reviewkd", "teacher": "resnet14", "steps": 1},
    "studied": {"method": "ft", "teacher": "resnet14", "steps": 1, "library": "shelf"},
    "uneven": {"batch_size": 33},
    "diverged": {"lr": 1e30},
}
SLOW: Courses = {
    name: {"method": f"ce + {name}", "teacher": "resnet14", "steps": 2}
    for name in ("afd", "iekd", "kr", "mgd", "ofd", "reviewkd", "rtk", "sp", "dist", "vkd", "dkd")
} | {
    "excited": {"method": "mgd(ce + kd + dist)", "teacher": "resnet14", "steps": 2},
    "peer": {"method": "ce + kd + ofd", "peer": "resnet14", "steps": 1},
}


def together(folder: Path, courses: Courses, size: int = 2) -> None:
    """Train each course in so many processes, in a folder of its name's first word."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    wanted = folder / "courses.json"
    listed = [{"folder": str(folder / name.split()[0]), **c} for name, c in courses.items()]
    wanted.write_text(json.dumps(listed), "utf-8")
    settings = os.environ | {
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.trainer.pair", str(wanted)]
    running = []
    for rank in range(size):
        place = settings | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        with (folder / f"stderr-{rank}").open("w") as log:
            running.append(subprocess.Popen(command, env=place, stderr=log))
    try:
        codes = [process.wait(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
    told = "\n".join((folder / f"stderr-{rank}").read_text("utf-8") for rank in range(size))
    assert (codes, told.strip()) == ([0] * size, "")


def found(folder: Path, name: str, stop: int = 0, size: int = 2) -> dict[str, Any]:
    """What all processes found; they agree on it."""
    files = [folder / name / f"found-{stop}-{rank}.json" for rank in range(size)]
    told: list[dict[str, Any]] = [json.loads(file.read_text("utf-8")) for file in files]
    assert all(one == told[0] for one in told[1:])
    return told[0]


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text("utf-8").splitlines())
    return [loss for line in lines for loss in line.get("losses", {}).values()]


def assert_same_step(folder: Path, name: str, given: dict[str, Any]) -> None:
    """The gradients and buffers of one process, in each of two, and the same bits in these."""
    one = course(folder / f"{name}-one", **{**given, "library": ""})
    assert found(folder, name)["losses"] == pytest.approx(one["losses"], rel=EXACT)
    first, second, alone = (
        torch.load(folder / place, weights_only=True)
        for place in (
            f"{name}/gradients-0.pt",
            f"{name}/gradients-1.pt",
            f"{name}-one/gradients-0.pt",
        )
    )
    assert list(first) == list(second) == list(alone)
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    largest = max(float(value.norm()) for value in alone.values())
    for key, value in alone.items():
        error, size = float((first[key] - value).norm()), float(value.norm())
        # what cancels to nothing, as a shift before a batch norm, is as exact as what it is made of
        assert error <= EXACT * size + 1e-14 * largest, (key, error, size)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all quick courses: starting two processes takes longer than what they do."""
    folder: Path = tmp_path_factory.mktemp("several")
    together(folder, QUICK)
    return folder


def test_a_training_by_two_is_the_training_by_one(quick: Path) -> None:
    by_two, by_one = found(quick, "whole"), course(quick / "one", **KD)
    assert losses(quick / "whole") == pytest.approx(losses(quick / "one"), rel=5e-3)
    assert by_two["scores"]["loss"] == pytest.approx(by_one["scores"]["loss"], rel=5e-3)
    assert by_two["facts"] == {**by_one["facts"], "processes": 2}
    assert len(by_two["predictions"]) == 40
    assert by_two["bare"]
    assert by_two["peak of all"]


def test_ctrl_c_in_one_of_them_stops_all_and_all_go_on_later(quick: Path) -> None:
    """Later, to the very bits of a training that was not stopped; or by one process alone."""
    assert found(quick, "cut", stop=4)["stopped"] == 4
    assert found(quick, "left", stop=4)["stopped"] == 4
    assert found(quick, "cut") == found(quick, "whole")
    assert losses(quick / "cut") == losses(quick / "whole")
    shutil.copytree(quick / "left", quick / "alone")
    alone = course(quick / "alone", **KD)
    assert losses(quick / "alone")[:8] == losses(quick / "whole")[:8]
    assert losses(quick / "alone") == pytest.approx(losses(quick / "whole"), rel=5e-3)
    assert alone["scores"]["n"] == 40


def test_all_stop_between_two_log_points_and_lose_no_loss(quick: Path) -> None:
    assert found(quick, "rarely", stop=3)["stopped"] == 3
    assert found(quick, "rarely") == found(quick, "whole")
    each, logged = losses(quick / "whole"), losses(quick / "rarely")
    steps = len(each) // 2 // 2  # of an epoch; two losses each
    means = [
        sum(each[first + term : first + 2 * steps : 2]) / steps
        for first in (0, 2 * steps)
        for term in (0, 1)
    ]
    assert logged == pytest.approx(means, rel=1e-5)


@pytest.mark.parametrize("name", ["gathered", "adapters", "studied"])
def test_a_step_of_two_is_the_step_of_one(name: str, quick: Path) -> None:
    assert_same_step(quick, name, QUICK[name])


def test_what_was_studied_is_kept_by_one_of_them(quick: Path) -> None:
    assert [file.name[:3] for file in (quick / "shelf").iterdir()] == ["ft-"]


def test_what_cannot_be_trained_by_two_is_refused_by_both(quick: Path) -> None:
    assert found(quick, "uneven")["error"] == (
        "UsageError: train.batch_size counts the images of a step over all processes, and 33 "
        "cannot be divided by 2. Set it to 32."
    )


@pytest.mark.parametrize("few", ["validation", "test"])
def test_fewer_images_than_processes_are_refused(
    few: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(tmp_path)
    check_shares(task.loaders, task.train)
    loader = SimpleNamespace(targets=torch.zeros(1))
    loaders: Any = replace(task.loaders, **{few: loader})
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=f"1 {few} images are fewer than the 2 processes"):
        check_shares(loaders, task.train)


@pytest.mark.parametrize(
    ("name", "value", "way"),
    [
        ("ACCELERATE_USE_FSDP", "true", "shard_teacher"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "shard_teacher"),
        ("ACCELERATE_USE_MEGATRON_LM", "1", "shard_teacher"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "compile"),
        ("ACCELERATE_DYNAMO_BACKEND", "NO", ""),
        ("ACCELERATE_USE_FSDP", "false", ""),
    ],
)
def test_a_launcher_that_would_change_the_training_is_refused(
    name: str, value: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    if not way:
        assert collective.meet().size == 1
        return
    with pytest.raises(UsageError, match=rf"{name} is '{value}'.*; train\.{way}"):
        collective.meet()


def test_the_main_process_counts_the_steps_between_two_agreements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("edgekd.trainer.accord.time.monotonic", lambda: now[0])
    agreeing = Accord(40)
    assert [agreeing.is_due(step) for step in (40, 41)] == [False, True]
    now[0] += 20.0  # a slow step
    assert agreeing.reach(41, False, True) == (False, True)
    assert agreeing.is_due(42)
    now[0] += 0.5
    assert agreeing.reach(42, True, False) == (True, False)
    assert [agreeing.is_due(step) for step in (47, 48)] == [False, True]


def test_both_see_that_a_training_diverged(quick: Path) -> None:
    assert found(quick, "diverged")["error"].startswith("DivergedError: ")


@pytest.mark.slow
def test_a_step_of_two_is_the_step_of_one_with_every_method(tmp_path: Path) -> None:
    together(tmp_path, SLOW)
    for name, given in SLOW.items():
        assert_same_step(tmp_path, name, given)


@pytest.mark.slow
def test_four_processes(tmp_path: Path) -> None:
    together(tmp_path, {"whole": KD, "again": KD}, size=4)
    by_one = course(tmp_path / "one", **KD)
    by_four = found(tmp_path, "whole", size=4)
    assert by_four["scores"]["loss"] == pytest.approx(by_one["scores"]["loss"], rel=5e-3)
    assert found(tmp_path, "again", size=4) == by_four
