"""Candidates that there are not, and measurements nobody made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekd.scouting.candidates import Candidate
from edgekd.scouting.efforts import Effort
from edgekd.scouting.priors import Prior
from edgekd.scouting.ranking import Entry, Standing
from edgekd.scouting.timing import Outcome, Tell


def entry(name: str, prior: float | None = 0.7, macs: int = 1000, how: str = "fp32") -> Entry:
    basis = "none" if prior is None else "published"
    return Entry(Candidate(name, 32, macs // 2, macs, Prior(prior, basis, "a table")), how)


def estimate(value: float | None, half: float, method: str = "95 %") -> dict[str, Any]:
    if value is None:
        return {"value": None, "lo": None, "hi": None, "method": method}
    return {"value": value, "lo": value - half, "hi": value + half, "method": method}


def record(
    ms: float, half: float = 0.05, runs: int = 150, peak: float = 70.0, size: float = 1.0
) -> dict[str, Any]:
    """A p95 that lies a tenth over the median, once there are 90 runs; a p99 with 459."""
    p95 = 1.1 * ms if runs >= 90 else None
    p99 = 1.2 * ms if runs >= 459 else None
    return {
        "runtime": {"name": "onnxruntime", "version": "1.2"},
        "policy": {"batch_size": 1},
        "timing": {
            "n": runs,
            "median": estimate(ms, half),
            "mean": ms,
            "mean_interval": [ms - half, ms + half],
            "p95": estimate(p95, half, f"n/a ({runs} runs, need 90)"),
            "p99": estimate(p99, half, f"n/a ({runs} runs, need 459)"),
        },
        "memory": {"peak_rss_bytes": int(peak * 1e6)},
        "artifact": {"size_bytes": int(size * 1e6)},
        "energy": None,
        "verdict": {"state": "stable"},
    }


def standing(name: str, prior: float | None, ms: float, half: float = 0.05) -> Standing:
    return Standing(entry(name, prior), record(ms, half), rounds=1)


class Stopwatch:
    """Times entries by a table, and remembers what it was asked."""

    def __init__(self, ms: dict[str, float], failing: Sequence[str] = ()) -> None:
        self._ms, self._failing = ms, failing
        self.asked: list[tuple[int, set[str]]] = []
        self.gone: list[str] = []

    def time(self, entries: Sequence[Entry], effort: Effort, tell: Tell) -> dict[str, Outcome]:
        self.asked.append((effort.runs, {each.candidate.name for each in entries}))
        tell(len(entries), "")
        return {each.key: self._outcome(each, effort) for each in entries}

    def drop(self, entries: Sequence[Entry]) -> None:
        self.gone += [each.candidate.name for each in entries]

    def _outcome(self, each: Entry, effort: Effort) -> Outcome:
        if each.candidate.name in self._failing:
            return Outcome(None, "no such operator")
        return Outcome(record(self._ms[each.candidate.name], runs=effort.runs))


class Quiet:
    """A watch that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stages: list[tuple[str, int, int, str]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        self.stages.append((stage, done, total, note))
