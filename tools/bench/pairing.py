"""Time several callables in turn, so that a drifting machine drifts for all of them."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import torch


def interleaved(work: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each, once a round; every second round runs in the opposite order."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name in list(work) if number % 2 else reversed(list(work)):
            begin = time.process_time()
            work[name]()
            taken[name].append(time.process_time() - begin)
    return {name: times[1:] for name, times in taken.items()}  # the first round warms up


def ratio(taken: Mapping[str, list[float]], name: str, floor: str) -> str:
    """Median of the rounds' ratios, and their range."""
    ratios = [a / b for a, b in zip(taken[name], taken[floor], strict=True)]
    return f"{statistics.median(ratios):.3f}x [{min(ratios):.3f}, {max(ratios):.3f}]"


def machine() -> str:
    """What the figures hold for."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (
        f"torch {torch.__version__}, python {platform.python_version()}, "
        f"{torch.get_num_threads()} thread, load {load:.1f} on {os.cpu_count()} CPUs, "
        "process CPU time, interleaved"
    )
