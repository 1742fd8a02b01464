"""Time several callables in turn, so that a drifting machine drifts for all of them."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata

import torch

from edgekd import __version__

Times = dict[str, list[float]]


def on_one_core() -> None:
    """One thread, and no GPU: that is what is measured here."""
    torch.set_num_threads(1)
    os.environ["ACCELERATE_USE_CPU"] = "true"


def interleaved(work: Mapping[str, Callable[[], None]], rounds: int) -> Times:
    """CPU seconds of each, once a round; every second round runs in the opposite order."""
    return clocks(work, rounds)[0]


def clocks(work: Mapping[str, Callable[[], None]], rounds: int) -> tuple[Times, Times]:
    """CPU seconds of each, and seconds by the clock on the wall."""
    cpu: Times = {name: [] for name in work}
    wall: Times = {name: [] for name in work}
    for number in range(rounds + 1):
        for name in list(work) if number % 2 else reversed(list(work)):
            began, begin = time.perf_counter(), time.process_time()
            work[name]()
            cpu[name].append(time.process_time() - begin)
            wall[name].append(time.perf_counter() - began)
    for taken in (cpu, wall):
        for times in taken.values():
            del times[0]  # the first round warms up
    return cpu, wall


def ratio(taken: Mapping[str, list[float]], name: str, floor: str) -> str:
    """Median of the rounds' ratios, and their range."""
    ratios = [a / b for a, b in zip(taken[name], taken[floor], strict=True)]
    return f"{statistics.median(ratios):.3f}x [{min(ratios):.3f}, {max(ratios):.3f}]"


def machine(*packages: str) -> str:
    """What the figures hold for: versions, of these packages too, threads and load."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", *packages))
    return (
        f"edgekd {__version__}, torch {torch.__version__}, {versions}, "
        f"python {platform.python_version()}; {torch.get_num_threads()} thread, "
        f"load {load:.1f} on {os.cpu_count()} CPUs, process CPU time, interleaved"
    )
