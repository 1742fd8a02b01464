"""ONNX Runtime without edgekd: what the naive way says, and what an operator really costs."""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edgekd.intervals import Interval

WARM = 20
"""Runs that are not counted."""


def naive_ratio(a: Path, b: Path, runs: int) -> float:
    """All runs of one, then all runs of the other, as most tools do: the second over the first."""
    medians = []
    for path in (a, b):
        session = _session(path)
        picture = _picture(session)
        spent = []
        for _ in range(WARM + runs):
            before = time.perf_counter()
            session.run(None, picture)
            spent.append(time.perf_counter() - before)
        medians.append(statistics.median(spent[WARM:]))
    return medians[1] / medians[0]


def cpu_ratio(a: Path, b: Path, rounds: int, runs: int) -> Interval:
    """CPU time of the second over that of the first, in turn, and about its 95 % interval.

    Sessions are opened anew for each round: where one lies in memory alone moves its time by 1-2 %.
    The interval is that of the median of the rounds, if they are about normal.
    """
    logs = []
    for number in range(rounds):
        turn = [a, b] if number % 2 else [b, a]
        sessions = {path: _session(path) for path in turn}
        picture = _picture(sessions[a])
        spent: dict[Path, list[float]] = {path: [] for path in turn}
        for run in range(WARM + runs):
            for path in turn if run % 2 else reversed(turn):
                before = time.process_time()
                sessions[path].run(None, picture)
                spent[path].append(time.process_time() - before)
        medians = {path: statistics.median(times[WARM:]) for path, times in spent.items()}
        logs.append(math.log(medians[b] / medians[a]))
    centre = statistics.median(logs)
    error = 1.25 * statistics.stdev(logs) / math.sqrt(len(logs))  # of a median, not of a mean
    return Interval(math.exp(centre), math.exp(centre - 2 * error), math.exp(centre + 2 * error))


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _picture(session: onnxruntime.InferenceSession) -> dict[str, NDArray[np.float32]]:
    (given,) = session.get_inputs()
    return {given.name: np.random.default_rng(0).normal(size=given.shape).astype(np.float32)}
