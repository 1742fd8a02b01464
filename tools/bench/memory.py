"""Memory and pace of a training on many images: one epoch of a tiny network on a tar.

python tools/bench/memory.py [--images 100000] [--side 64] [--size 32] [--workers 2] [--quick]

The tar is made first (a few hundred pictures, each written many times) and thrown away afterwards.
What is read is what a user would see: the training runs as a command of its own, and its memory,
together with that of the processes that decode for it, is read from the system twice a second;
what they share is counted once. By default the images fit into ``data.memory_gb`` and are kept;
``--side 224 --size 224`` streams them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pairing import machine
from PIL import Image

from edgekd.trainer.resident import held

BOUND = 4 * 2**30
"""Bytes that a training may hold, its networks included, which are tiny here."""
PICTURES, CLASSES = 256, 10


def main() -> int:
    """Print what was held, and how fast it was; 1 where it was more than the bound."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=64, help="of the JPEGs, in pixels")
    parser.add_argument("--size", type=int, default=32, help="of the network's input, in pixels")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-gb", type=float, default=1.5)
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--quick", action="store_true", help="200 images, streamed")
    asked = parser.parse_args()
    if asked.quick:
        asked.images, asked.side, asked.size = 200, 24, 8
        asked.memory_gb, asked.batch_size = 1e-6, 32
    with tempfile.TemporaryDirectory(prefix="edgekd-bench-") as place:
        root = Path(place)
        begun = time.perf_counter()
        make(root / "images.tar", asked.images, asked.side)
        size, took = (root / "images.tar").stat().st_size, time.perf_counter() - begun
        print(machine("pillow"))
        print(
            f"{asked.images:,} JPEGs of {asked.side} px, {size / 1e9:.2f} GB, made in {took:.0f} s"
        )
        seconds, peaks, said = train(root, asked)
        return report(root / "out", seconds, peaks, said)


def make(tar: Path, images: int, side: int) -> None:
    """A tar with ten class folders; pictures as hard to decode as photographs are."""
    draw, encoded = np.random.default_rng(0), []
    for _ in range(min(PICTURES, images)):
        coarse = Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.int16)
        grain = draw.integers(-12, 13, smooth.shape)
        file = io.BytesIO()
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(file, "JPEG")
        encoded.append(file.getvalue())
    with tarfile.open(tar, "w") as packed:
        for number in range(images):
            data = encoded[number % len(encoded)]
            member = tarfile.TarInfo(f"class{number % CLASSES}/{number:08}.jpg")
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
            packed.members.clear()  # type: ignore[attr-defined]  # it would keep them all


def train(root: Path, asked: argparse.Namespace) -> tuple[float, tuple[int, int], str]:
    """Seconds, the most bytes held by all processes and by the first alone, and what was said."""
    command = [sys.executable, "-m", "edgekd", "teach", "--data", str(root / "images.tar")]
    command += ["--teacher", asked.student, "--output", str(root / "out"), "--epochs", "1"]
    settings = {"data.size": asked.size, "data.workers": asked.workers}
    settings |= {"data.memory_gb": asked.memory_gb, "teach.batch_size": asked.batch_size}
    settings |= {"teach.log_steps": 20}
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    env = os.environ | {"XDG_CACHE_HOME": str(root), "XDG_CONFIG_HOME": str(root)}
    begun, peaks = time.perf_counter(), [0, 0]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    ) as running:
        done = threading.Event()
        watcher = threading.Thread(target=watch, args=(running.pid, peaks, done))
        watcher.start()
        said, _ = running.communicate()
        done.set()
        watcher.join()
    if running.returncode:
        raise SystemExit(f"the training ended with {running.returncode}:\n{said}")
    return time.perf_counter() - begun, (peaks[0], peaks[1]), said


def watch(pid: int, peaks: list[int], done: threading.Event) -> None:
    """Raise the peaks while a process and those it started run."""
    while not done.wait(0.5):
        _, *others = family(pid)
        first = held(pid, "Rss")
        beside = sum(held(other, "Private_Clean", "Private_Dirty") for other in others)
        peaks[0], peaks[1] = max(peaks[0], first + beside), max(peaks[1], first)


def family(pid: int) -> Iterator[int]:
    """A process and those below it."""
    yield pid
    try:
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in listed.read_text("ascii").split():
                yield from family(int(child))
    except OSError:  # it has just ended
        return


def report(out: Path, seconds: float, peaks: tuple[int, int], said: str) -> int:
    """Print the figures."""
    lines = (out / "training" / "metrics.jsonl").read_text("utf-8").splitlines()
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    rates = [record["images_per_s"] for record in records if "images_per_s" in record]
    facts = json.loads((out / "manifest.json").read_text("utf-8"))["training"]
    for name in ("training", "loader", "step"):
        found = [rate[name] for rate in rates if name in rate]
        print(f"{name}: {np.median(found):,.0f} images/s" if found else f"{name}: not told")
    for line in said.splitlines():
        if "limit" in line:
            print(line.strip())
    print(f"the whole command: {seconds:.0f} s, the training {facts['seconds']:.0f} s of it")
    print(
        f"held at most: {peaks[0] / 2**30:.2f} GiB in all processes, {peaks[1] / 2**30:.2f} in "
        f"the one that trains; it says itself: {facts['peak_gb']:.2f} GB"
    )
    kept = peaks[0] <= BOUND
    print(f"{'within' if kept else 'MORE THAN'} the bound of {BOUND / 2**30:.0f} GiB")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
