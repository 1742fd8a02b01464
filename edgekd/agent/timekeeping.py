"""Clocks: where durations come from, and whether the clocks themselves can be believed.

Durations are differences of the monotonic clock. Between blocks it is compared with two others: the
system's, which people and time servers set, and the one since boot, which counts sleep as well.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable, List, NamedTuple, Optional, Sequence

from edgekd.agent.states import Finding

JUMP_S = 0.5  # by which clocks may part: they are not read at once, and are slewed by time servers
ABSURD = 1000  # times the median, and a second at least: no model does that


class Reading(NamedTuple):
    """The clocks at one moment, in ns."""

    steady: int
    system: int
    boot: Optional[int]
    """None on systems without such a clock."""


def _preemptions() -> int:
    """How often the system took the CPU away from this process; 0 where it does not say."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _boot() -> Optional[int]:
    number = getattr(time, "CLOCK_BOOTTIME", None)  # Linux's
    return None if number is None else time.clock_gettime_ns(number)


@dataclass(frozen=True)
class Clock:
    """Where time comes from; tests have one of their own."""

    wall: Callable[[], int] = time.perf_counter_ns
    """Monotonic: of it all durations are made."""
    cpu: Callable[[], int] = time.process_time_ns
    preemptions: Callable[[], int] = _preemptions
    system: Callable[[], int] = time.time_ns
    boot: Callable[[], Optional[int]] = _boot

    def read(self) -> Reading:
        """All clocks now."""
        return Reading(self.wall(), self.system(), self.boot())


def ran_backwards(readings: Sequence[Reading]) -> bool:
    """Whether the monotonic clock did what it must not."""
    return any(b.steady < a.steady for a, b in zip(readings, readings[1:]))


def jumps(readings: Sequence[Reading], backwards: int) -> List[Finding]:
    """States and sentences for what the clocks did.

    Args:
        readings: in order.
        backwards: how often a run was seen to begin or end too early.
    """
    found: List[Finding] = []
    if backwards or ran_backwards(readings):
        text = "the monotonic clock ran backwards: negative durations were left out, and the others"
        found.append(("unstable", f"{text} are not to be trusted. Restart the device"))
    slept, set_by = _slept_s(readings), _set_s(readings)
    if slept > JUMP_S:
        found.append(("unstable", f"the device slept for {slept:.1f} s in between"))
    if abs(set_by) > JUMP_S:
        way = "forward" if set_by > 0 else "back"
        text = f"the system clock was set {way} by {abs(set_by):.1f} s; the durations are not its"
        found.append(("stable", text))
    return found


def absurd(ms: Sequence[float], median_ms: float) -> List[Finding]:
    """A state and a sentence where a run took longer than any model does; it is counted."""
    longest = max(ms)
    if longest < 1000 or longest < ABSURD * median_ms:
        return []
    text = f"a run took {longest / 1000:.1f} s, {longest / median_ms:.0f} times the median"
    return [("unstable", f"{text}: the process stood still, or the clock jumped")]


def _slept_s(readings: Sequence[Reading]) -> float:
    """Seconds that only the clock since boot has counted."""
    aside = [one.boot - one.steady for one in readings if one.boot is not None]
    return (aside[-1] - aside[0]) / 1e9 if aside else 0.0


def _set_s(readings: Sequence[Reading]) -> float:
    """The largest step of the system's clock that neither time nor sleep explains."""
    passed = [one.steady if one.boot is None else one.boot for one in readings]
    aside = [one.system - count for one, count in zip(readings, passed)]
    return max(((b - a) / 1e9 for a, b in zip(aside, aside[1:])), key=abs, default=0.0)
