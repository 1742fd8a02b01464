"""Energy of an inference: the board's own meter, read while it idles and while it runs.

The idle board is metered first, then while the model runs again and again; what is claimed is the
difference. Where there is no meter, or the difference drowns in what the meter says of the idle
board, there is no number: nothing is ever estimated.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from edgekd.agent import meters as shelf
from edgekd.agent.failures import AgentError
from edgekd.agent.meters import Meter

SETTLE_S = 2.0
"""Left out before each of the two: some meters tell a mean over the last second."""
PARTS = 5
"""Of each of the two, whose means say how far the meter can be trusted."""
T_95 = 2.306
"""Student's t, 95 % two-sided, for twice five parts."""
MOST_SHARE = 0.1
"""Of the time, at most, a reading may take from what it is to measure."""

Reading = Tuple[float, float]
"""A time in seconds, and watts now or joules so far."""


@dataclass(frozen=True)
class Metered:
    """What came of it."""

    energy: Optional[Dict[str, Any]]
    """``j_per_inference, j_interval, idle_w, busy_w, rate_hz, scope, meter, seconds, n``; None if
    there is nothing to claim."""
    reasons: Sequence[str]
    """Sentences: why there is no number."""


@dataclass
class _Sampler:
    """Reads a meter from a thread of its own, at its pace and never more than a share of time."""

    meter: Meter
    readings: List[Reading] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: Optional[threading.Thread] = None

    def __enter__(self) -> _Sampler:
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self.take()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self.take()

    def take(self) -> float:
        """Read once; the seconds it took."""
        before = time.perf_counter()
        value = self.meter.read()
        after = time.perf_counter()
        if value is not None:
            self.readings.append(((before + after) / 2, value))
        return after - before

    def _go_on(self) -> None:
        spent = 0.0
        while not self._over.wait(max(self.meter.period_s, spent * (1 / MOST_SHARE - 1))):
            spent = self.take()


def measure(
    run: Callable[[], object],
    seconds: float,
    idle_seconds: float,
    meters: Optional[Sequence[Meter]] = None,
    on_gpu: bool = False,
    settle_s: float = SETTLE_S,
) -> Metered:
    """Meter the idle device, then a loop of runs.

    Args:
        run: one inference; it returns when its work is done.
        seconds: how long to run, at least.
        idle_seconds: how long to meter the idle device beforehand.
        meters: to choose from; those of this device by default.
        on_gpu: whether a graphics card runs the model, so that its own meter may be taken.
        settle_s: what is left out before each of the two.
    """
    if meters is not None:
        return _with(shelf.choose(meters, on_gpu), (), run, (seconds, idle_seconds, settle_s))
    found = shelf.find()
    try:
        meter = shelf.choose(found.meters, on_gpu)
        return _with(meter, found.refusals, run, (seconds, idle_seconds, settle_s))
    finally:
        found.close()


def _with(
    meter: Optional[Meter],
    refusals: Sequence[str],
    run: Callable[[], object],
    lengths: Tuple[float, float, float],
) -> Metered:
    if meter is None:
        return Metered(None, list(refusals) or ["no meter: energy is n/a"])
    seconds, idle_seconds, settle_s = lengths
    time.sleep(settle_s)
    with _Sampler(meter) as idle:
        time.sleep(idle_seconds)
    _loop(run, settle_s)
    with _Sampler(meter) as busy:
        n, spent = _loop(run, seconds)
    try:
        return Metered(_claim(meter, idle.readings, busy.readings, n, spent), [])
    except AgentError as error:
        return Metered(None, [str(error)])


def _loop(run: Callable[[], object], seconds: float) -> Tuple[int, float]:
    """How many runs, and how long they took in all."""
    started, n = time.perf_counter(), 0
    while True:
        run()
        n += 1
        spent = time.perf_counter() - started
        if spent >= seconds:
            return n, spent


def _claim(
    meter: Meter, idle: Sequence[Reading], busy: Sequence[Reading], n: int, seconds: float
) -> Dict[str, Any]:
    quiet, loaded = _watts(meter, idle, "idle"), _watts(meter, busy, "while it ran")
    more = mean(loaded) - mean(quiet)
    noise = T_95 * math.sqrt((stdev(quiet) ** 2 + stdev(loaded) ** 2) / PARTS)
    if more <= noise:
        less = more < -noise
        why = (
            "so it drew less than idle"
            if less
            else f"a difference within its noise of {noise:.2g} W"
        )
        raise AgentError(
            "meter",
            f"energy is n/a: {meter.name} told {mean(quiet):.3g} W idle and {mean(loaded):.3g} W "
            f"while the model ran, {why}. Stop what else runs there, or meter it for longer.",
        )
    return {
        "j_per_inference": more * seconds / n,
        "j_interval": [(more - noise) * seconds / n, (more + noise) * seconds / n],
        "idle_w": mean(quiet),
        "busy_w": mean(loaded),
        "rate_hz": (len(busy) - 1) / (busy[-1][0] - busy[0][0]),
        "scope": meter.scope,
        "meter": meter.name,
        "seconds": seconds,
        "n": n,
    }


def _watts(meter: Meter, readings: Sequence[Reading], when: str) -> List[float]:
    """The mean power of each part of a series; the parts are equally long but for a reading."""
    steps = len(readings) - 1
    if steps < PARTS:
        raise AgentError(
            "meter",
            f"energy is n/a: {meter.name} gave {len(readings)} readings {when}, and {PARTS + 1} "
            "are needed. Meter it for longer.",
        )
    ends = [round(part * steps / PARTS) for part in range(PARTS + 1)]
    return [_mean_watts(meter, readings[a : b + 1]) for a, b in zip(ends, ends[1:])]


def _mean_watts(meter: Meter, readings: Sequence[Reading]) -> float:
    """From the first to the last reading: what was counted, or the area under what was told."""
    seconds = readings[-1][0] - readings[0][0]
    if meter.counts:
        return (readings[-1][1] - readings[0][1]) / seconds
    pairs = zip(readings, readings[1:])
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs) / seconds
