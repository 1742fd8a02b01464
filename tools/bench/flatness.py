"""What a process holds, read again and again, and whether that grows.

A quantity is flat if the bad end of the interval of its slope, carried on for an hour, adds less to
it than it is allowed to. A slope that is merely not known to differ from zero proves nothing.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

TOKEN = "EDGEKD_SOAK"
"""A variable that all processes of a soak inherit, whoever their parent is by now."""
MB = 2**20
LEAST = 6
"""Readings for a slope."""


@dataclass(frozen=True)
class Slope:
    """By how much something grows for each unit of time, with the ends of its interval."""

    value: float
    lo: float
    hi: float


def slope_of(times: Sequence[float], values: Sequence[float], confidence: float = 0.95) -> Slope:
    """The median of the slopes between any two readings, with an interval.

    Sen, "Estimates of the regression coefficient based on Kendall's tau", Journal of the American
    Statistical Association 63, 1968: half of the readings but for a few may be anything.

    Args:
        times: when each was taken; no two at once.
        values: the readings.
        confidence: of the interval.
    """
    n = len(values)
    if n != len(times) or n < LEAST:
        raise ValueError(f"expected {LEAST} readings or more, each with its time; got {n}")
    slopes = sorted(
        (values[j] - values[i]) / (times[j] - times[i]) for i in range(n) for j in range(i + 1, n)
    )
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    reach = z * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(0, math.floor((len(slopes) - reach) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + reach) / 2))
    return Slope(statistics.median(slopes), slopes[low], slopes[high])


@dataclass(frozen=True)
class Bound:
    """What a quantity may gain in an hour: so much, or a share of what it is, if that is more."""

    amount: float
    share: float = 0.0

    def of(self, level: float) -> float:
        return max(self.amount, self.share * level)


BOUNDS: Mapping[str, Bound] = {
    "RSS, MB": Bound(8.0, 0.02),
    "objects of Python": Bound(2000, 0.01),
    "descriptors": Bound(0.5),
    "threads": Bound(0.5),
    "processes": Bound(0.5),
    "their PSS, MB": Bound(0.5),
    "temporary files": Bound(0.5),
    "cache, MB": Bound(0.5),
}


@dataclass(frozen=True)
class Row:
    """One quantity over a soak."""

    name: str
    first: float
    """The median of its first tenth; the last one's is ``last``."""
    last: float
    most: float
    slope: Slope | None
    """An hour; None where there are too few readings."""
    allowed: float

    @property
    def verdict(self) -> str:
        if self.slope is None:
            return "too few"
        if self.slope.hi <= self.allowed:
            return "flat"
        return "grows" if self.slope.lo > 0 else "open"

    def __str__(self) -> str:
        if self.slope is None:
            slope = "-"
        else:
            slope = f"{self.slope.value:+.3g} [{self.slope.lo:+.3g}, {self.slope.hi:+.3g}]"
        levels = f"{self.first:.6g} | {self.last:.6g} | {self.most:.6g}"
        return f"| {self.name} | {levels} | {slope} | {self.allowed:.3g} | {self.verdict} |"


HEAD = (
    "| quantity | at first | at last | most | slope an hour, 95 % | may be | is |",
    "|---|---|---|---|---|---|---|",
)


def rows_of(hours: Sequence[float], readings: Sequence[Mapping[str, float]]) -> list[Row]:
    """One row a quantity.

    Args:
        hours: when each reading was taken.
        readings: of :func:`reading`, those of the warm-up left out.
    """
    found, tenth = [], max(1, len(readings) // 10)
    for name, bound in BOUNDS.items():
        values = [each[name] for each in readings]
        first, last = statistics.median(values[:tenth]), statistics.median(values[-tenth:])
        slope = slope_of(hours, values) if len(values) >= LEAST else None
        found.append(Row(name, first, last, max(values), slope, bound.of(first)))
    return found


def reading(temporary: Path, cache: Path) -> dict[str, float]:
    """What this process holds, after it gave back what it could.

    Args:
        temporary: the folder for such, of this process and all that it starts.
        cache: the user's.
    """
    gc.collect()
    with suppress(AttributeError):  # the C library of others keeps it, or not
        ctypes.CDLL(None).malloc_trim(0)
    others = started_here()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "RSS, MB": resident / MB,
        "objects of Python": len(gc.get_objects()),
        "descriptors": _count("/proc/self/fd"),
        "threads": _count("/proc/self/task"),
        "processes": len(others),
        "their PSS, MB": sum(map(_pss, others)) / MB,
        "temporary files": sum(1 for _ in temporary.rglob("*")),
        "cache, MB": sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) / MB,
    }


def started_here() -> list[int]:
    """Processes that have this one's token, and children of it that nobody has waited for."""
    mine, token = os.getpid(), f"{TOKEN}={os.environ[TOKEN]}".encode()
    return [
        int(place.name)
        for place in Path("/proc").iterdir()
        if place.name.isdecimal() and int(place.name) != mine and _is_ours(place, mine, token)
    ]


def _is_ours(place: Path, mine: int, token: bytes) -> bool:
    with suppress(OSError):  # gone meanwhile, or another user's, or ended: it has no variables
        if token in (place / "environ").read_bytes().split(b"\0"):
            return True
    with suppress(OSError):
        state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
        return state == "Z" and int(parent) == mine
    return False


def _count(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


def _pss(process: int) -> int:
    """Bytes of memory of a process, what it shares divided among those who share it."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
