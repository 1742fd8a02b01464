"""What is said of the pace is what was waited for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgekd.data import Batch, Images, Split
from edgekd.loading import Loaders
from edgekd.loading.crew import Crew
from edgekd.loading.memory import Shift, TrainLoader
from edgekd.loading.stream import StreamLoader
from edgekd.preprocess import Preprocess
from edgekd.trainer import pace, resident
from edgekd.trainer.pace import Pace

PREPROCESS = Preprocess((8, 8), (0.5,) * 3, (0.5,) * 3)
ADVICE = "take more processes"


def stream(seconds: float, workers: int = 0) -> StreamLoader:
    """16 images that take so long each."""

    def image(i: int) -> Image.Image:
        time.sleep(seconds)
        return Image.new("RGB", (8, 8))

    split = Split(np.zeros(16, np.int64), image, str)
    crew = Crew(workers)
    return StreamLoader(split, PREPROCESS, 4, "none", 0, crew=crew, advice=ADVICE)


def memory() -> TrainLoader:
    images = Images(np.zeros((16, 8, 8, 3), np.uint8), np.zeros(16, np.int64))
    return TrainLoader(images, PREPROCESS, 4, Shift(0, False), 0)


def trained(watch: Pace, batches: Iterator[Batch], step: float) -> dict[str, int]:
    """The rates of one epoch whose steps take so many seconds."""
    begun = time.perf_counter()
    for _ in watch.of(batches):
        time.sleep(step)
    return watch.told(16, time.perf_counter() - begun)


def test_the_limit_is_said_once_and_again_where_it_changes() -> None:
    said: list[str] = []
    slow = stream(0.02)
    watch = Pace(slow, said.append)
    for epoch in range(2):
        rates = trained(watch, slow.epoch(epoch), 0.001)
        watch.end()
    assert rates["loader"] < 60 < rates["step"]
    assert rates["training"] < rates["step"]
    (line,) = said
    assert line.startswith("loading is the limit: ")
    assert line.endswith(f". To train faster, {ADVICE}")
    trained(watch, slow.epoch(2), 0.001)
    watch.told(16, 60.0)  # the steps of this epoch took a minute more
    watch.end()
    assert len(said) == 2
    assert said[1].startswith("the step is the limit: ")


def test_both_rates_are_of_the_same_time() -> None:
    """Most of this epoch was slow to load, its end was not: it is the epoch that counts."""
    said: list[str] = []
    loader = stream(0.0)
    watch = Pace(loader, said.append)
    batches = loader.epoch(0)
    for images, busy in ((96, 8.4), (4, 0.0)):
        next(watch.of(batches))  # 4 images, in no time
        loader._desk.decoded += images
        loader._desk.busy += busy
        watch.told(images, images / 10)
    watch.end()
    assert said == ["the step is the limit: 10 images/s; loading gives 13"]


def test_a_slow_step_is_the_limit_and_nothing_is_advised() -> None:
    said: list[str] = []
    quick = stream(0.0005)
    watch = Pace(quick, said.append)
    rates = trained(watch, quick.epoch(0), 0.1)
    watch.end()
    assert rates["step"] < rates["loader"]
    (line,) = said
    assert line.startswith("the step is the limit: ")
    assert ADVICE not in line


def test_of_images_in_memory_nothing_is_said_but_the_rates_are_told() -> None:
    said: list[str] = []
    loader = memory()
    watch = Pace(loader, said.append)
    rates = trained(watch, loader.epoch(0), 0.001)
    watch.end()
    assert set(rates) == {"training", "loader", "step"}
    assert rates["loader"] > rates["training"]
    assert not said


def test_batches_that_came_another_way_have_one_rate() -> None:
    rates = Pace(memory(), print).told(64, 2.0)
    assert rates == {"training": 32}
    assert pace.told(rates) == "32 images/s"
    assert pace.told({"training": 1200, "loader": 9000, "step": 1384}) == (
        "1,200 images/s (loader 9,000, step 1,384)"
    )


def test_the_batches_are_passed_on_as_they_are() -> None:
    loader = memory()
    for a, b in zip(Pace(loader, print).of(loader.epoch(1)), loader.epoch(1), strict=True):
        assert torch.equal(a.index, b.index)


# ---- memory ----


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells it so")
def test_the_peak_is_this_program_s_own_and_not_its_parent_s() -> None:
    held = np.ones(200_000_000, np.uint8)  # the parent's
    code = (
        f"import runpy; own_peak = runpy.run_path({resident.__file__!r})['own_peak']; "
        "before = own_peak(); held = bytearray(b'x') * 300_000_000; del held; "
        "print(before, own_peak())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 280e6 < after - before < 400e6
    assert resident.own_peak() > held.nbytes


def test_those_who_decode_are_counted_once_and_without_what_they_share() -> None:
    crew = Crew(2)
    made: list[Any] = [stream(0.0), *(_still(crew) for _ in range(2))]
    loaders = Loaders(*made)
    alone = resident.peak_gb(loaders)
    list(made[1].epoch())
    pids = crew.processes
    assert len(pids) == 2
    own = resident.own_peak()
    both = sum(map(resident.private, pids))
    assert 0 < both < own  # they were forked from this process, and share most of it
    assert resident.peak_gb(loaders) == pytest.approx((own + both) / 1e9, rel=0.05)
    assert alone <= resident.peak_gb(loaders)
    assert resident.private(2**22 + 1) == 0


def _still(crew: Crew) -> StreamLoader:
    split = Split(np.zeros(8, np.int64), lambda i: Image.new("RGB", (8, 8)), str)
    return StreamLoader(split, PREPROCESS, 4, crew=crew)
