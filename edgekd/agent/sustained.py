"""Running on and on: what heat does to a model, a row for every minute or so."""

from __future__ import annotations

import gc
import math
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from edgekd.agent import cores, facts
from edgekd.agent.bench import Entrant, timed_run
from edgekd.agent.estimates import t_quantile
from edgekd.agent.percentiles import percentile
from edgekd.agent.race import Rules
from edgekd.agent.runtimes import Arrays, Session
from edgekd.agent.states import Finding
from edgekd.agent.throttling import new_bits
from edgekd.agent.timekeeping import Clock, jumps, ran_backwards
from edgekd.agent.trends import inflation

WARM_RUNS = 10  # the timing has measured the warm-up; here the first row may be cool
WINDOWS = 10  # of a row, whose medians say how well its own is known
SLOWER = 0.03  # of the first rows' time, at least
CAPPED = 0.95  # of the first row's frequency, at most
KEPT_SHARE = 0.5  # of the runs; with more of them interrupted, the others on the machine decide
MEDIANS_ERROR = math.sqrt(math.pi / 2)  # over that of a mean, for normal values
FEWEST = 5  # windows, to say how much they vary about a line
NOW_BITS = 0xF  # of Raspberry Pi's throttle bits; the others tell of what was

Row = Dict[str, Any]
Moment = Mapping[str, Any]
Runs = Tuple[Any, Any, Any]
"""Durations and CPU times in ns, and whether a run was disturbed."""


@dataclass(frozen=True)
class Span:
    """How long, and how often there is a row."""

    seconds: float
    row_seconds: float

    def row_ends(self, spent: float) -> float:
        """Seconds at which a row ends that begins now; the last takes in what is left over."""
        end = (int(spent / self.row_seconds) + 1) * self.row_seconds
        return self.seconds if self.seconds - end < self.row_seconds / 2 else end


@dataclass
class Course:
    """What was seen so far."""

    rows: List[Row] = field(default_factory=list)
    windows: List[List[float]] = field(default_factory=list)
    """Medians in ms of each row's stretches, in order."""
    moments: List[Moment] = field(default_factory=list)
    backwards: int = 0

    def findings(self) -> List[Finding]:
        """What a verdict has to say of it."""
        held = [f"in the sustained run {text}" for text in facts.throttling([*self.moments])]
        return [("throttled", text) for text in held] + slower(self.rows, self.windows)


def look(with_gpus: bool = False, root: Path = facts.ROOT) -> Moment:
    """A moment with the frequencies of those cores alone that this process may use."""
    used = cores.frequencies(root, "scaling_cur_freq", facts.affinity())
    return {**facts.moment(root, with_gpus), "core_khz": used}


def sustain(
    one: Entrant,
    span: Span,
    rules: Rules,
    on_row: Callable[[Row], None],
    clock: Optional[Clock] = None,
    seen: Callable[[], Moment] = look,
) -> Dict[str, Any]:
    """Run a model for a long time.

    Args:
        one: the model.
        span: how long.
        rules: which runs count as disturbed; nothing else of them.
        on_row: told each row as it comes.
        clock: the clocks; the machine's own by default.
        seen: says how the device is doing, between rows.

    Returns:
        ``rows``, and ``found``: states and sentences for the verdict.
    """
    clock = clock or Clock()
    session = one.open()
    feeds = one.feeds(session)
    course = Course(moments=[seen()])
    try:
        for turn in range(WARM_RUNS):
            session.run(feeds[turn % len(feeds)])
        readings = [clock.read()]
        began, spent = readings[0].steady, 0.0
        while spent < span.seconds and not (course.backwards or ran_backwards(readings)):
            end = began + round(span.row_ends(spent) * 1e9)
            runs = _runs(session, feeds, rules, clock, end)
            readings.append(clock.read())
            spent = (readings[-1].steady - began) / 1e9
            before = len(course.rows)
            _take_in(course, spent, runs, seen())
            for row in course.rows[before:]:  # none, where no run could be counted
                on_row(row)
    finally:
        session.close()
    found = [*jumps(readings, course.backwards), *course.findings()]
    return {"rows": course.rows, "found": found}


def slower(rows: Sequence[Row], windows: Sequence[Sequence[float]]) -> List[Finding]:
    """Whether the last quarter of the rows is slower than the first, beyond what either varies."""
    part = max(len(rows) // 4, 1)
    if len(rows) < 2:
        return []
    first, early = _interval([ms for row in windows[:part] for ms in row])
    last, late = _interval([ms for row in windows[-part:] for ms in row])
    if last < first * (1 + SLOWER) or late[0] <= early[1]:
        return []
    a, b = rows[0], rows[-1]
    text = (
        f"it became {last / first - 1:.0%} slower in {b['minute']:.3g} minutes of running "
        f"({first:.3g} to {last:.3g} ms; {_state_of(a)} at first, {_state_of(b)} at the end)"
    )
    if _capped(a, b):
        return [("throttled", text)]
    kept = min(row["kept_share"] for row in (*rows[:part], *rows[-part:]))
    if kept >= KEPT_SHARE:
        return [("drifting", text)]
    return [("noisy", f"{text}, but up to {1 - kept:.0%} of its runs were interrupted")]


def _capped(first: Row, last: Row) -> bool:
    """Whether the device says that it was held back, now or since the first row."""
    early, late = first["throttle_bits"] or 0, last["throttle_bits"] or 0
    if late & NOW_BITS or (first["throttle_bits"] is not None and new_bits(early, late)):
        return True
    known = first["core_khz"] and last["core_khz"]
    return bool(known and last["core_khz"] < CAPPED * first["core_khz"])


def _runs(session: Session, feeds: Sequence[Arrays], rules: Rules, clock: Clock, end: int) -> Runs:
    """Until a moment; one run at least."""
    wall, cpu, disturbed = array("q"), array("q"), array("b")  # 17 bytes: a row can have a million
    now, turn = clock.wall(), 0
    gc.collect()
    gc.disable()  # as in the timing: a collection inside a run would be counted as the model's
    try:
        while True:
            before = now
            run = timed_run(session, feeds[turn % len(feeds)], 0, rules, clock)
            wall.append(run.wall_ns)
            cpu.append(run.cpu_ns)
            disturbed.append(run.disturbed)
            now, turn = clock.wall(), turn + 1
            if now >= end or now < before:
                return np.array(wall), np.array(cpu), np.array(disturbed)
    finally:
        gc.enable()


def _take_in(course: Course, spent: float, runs: Runs, moment: Moment) -> None:
    """Add a row of what was run, and of how the device is doing after it."""
    wall, cpu, disturbed = runs
    course.backwards += int((wall < 0).sum())
    ms = wall[wall >= 0] / 1e6
    if not len(ms):
        return
    khz, load = moment.get("core_khz"), moment.get("load_average")
    course.moments.append(moment)
    course.windows.append([float(np.median(w)) for w in np.array_split(ms, min(WINDOWS, len(ms)))])
    course.rows.append(
        {
            "minute": round(spent / 60, 4),
            "n": len(ms),
            "median": round(float(np.median(ms)), 6),
            "p95": percentile(ms.tolist(), 95).value,
            "cpu_ms": round(float(np.median(cpu)) / 1e6, 6),
            "kept_share": round(1 - float(disturbed.mean()), 4),
            "temperature_c": max(_degrees(moment), default=None),
            "core_khz": max(khz) if khz else None,  # another may idle
            "throttle_bits": moment.get("throttle_bits"),
            "load": load[0] if load else None,
        }
    )


def _degrees(moment: Moment) -> List[float]:
    """Of every zone, and of graphics cards."""
    cards = [card.get("temperature_c") for card in moment.get("gpus") or ()]
    zones: Mapping[str, float] = moment.get("temperature_c") or {}
    return [*zones.values(), *(degrees for degrees in cards if degrees is not None)]


def _interval(values: Sequence[float]) -> Tuple[float, Tuple[float, float]]:
    """Median of windows, and its 95 % interval: of their scatter about a line.

    Windows that resemble their neighbours count for fewer.
    """
    v, n = np.asarray(values, dtype=np.float64), len(values)
    middle = float(np.median(v))
    if n < FEWEST:
        return middle, (-math.inf, math.inf)
    at = np.linspace(-1, 1, n)
    rest = v - np.polyval(np.polyfit(at, v, 1), at)
    worth = max(n / inflation(values), 2.0)
    error = MEDIANS_ERROR * math.sqrt(float((rest**2).sum()) / (n - 2) / worth)
    half = t_quantile(max(int(worth) - 1, 1)) * error
    return middle, (middle - half, middle + half)


def _state_of(row: Row) -> str:
    heat, khz = row["temperature_c"], row["core_khz"]
    warm = "unknown temperature" if heat is None else f"{heat:.0f} degC"
    return warm if khz is None else f"{warm} and {khz / 1e6:.2g} GHz"
