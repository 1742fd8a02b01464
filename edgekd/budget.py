"""Budget: what a model may cost on its device and must be worth, read strictly, and ruled upon.

``"p95<=30ms, top1_drop<=1%, peak_mb<=300"``: clauses, all of which have to hold. A clause is held
against the bad end of a figure's interval: what only the good end meets is not shown to hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgekd.errors import UsageError, hint

TIME = {"us": 1e-3, "ms": 1.0, "s": 1e3}
SHARE = {"%": 0.01}
MEGA = {"": 1.0, "MB": 1.0}
JOULE = {"": 1.0, "mJ": 1e-3, "J": 1.0}
RATE = {"": 1.0, "/s": 1.0}

State = Literal["holds", "fails", "open", "unknown"]


@dataclass(frozen=True)
class Metric:
    """What can be bounded."""

    sense: Literal["<=", ">="]
    units: Mapping[str, float]
    """Unit -> how much of the metric's own unit it is; an empty one where none need be written."""
    unit: str
    """The metric's own: ms, MB, J, 1/s; of shares, which are kept as such, ``%``."""
    title: str


METRICS: Mapping[str, Metric] = {
    "p50": Metric("<=", TIME, "ms", "median latency"),
    "p95": Metric("<=", TIME, "ms", "95th percentile of the latency"),
    "p99": Metric("<=", TIME, "ms", "99th percentile of the latency"),
    "mean": Metric("<=", TIME, "ms", "mean latency"),
    "top1": Metric(">=", SHARE, "%", "top-1 accuracy"),
    "top1_drop": Metric("<=", SHARE, "%", "points of top-1 lost against the teacher"),
    "peak_mb": Metric("<=", MEGA, "MB", "peak resident memory, 10^6 bytes"),
    "size_mb": Metric("<=", MEGA, "MB", "the model's files, 10^6 bytes"),
    "j_per_inf": Metric("<=", JOULE, "J", "energy of one inference, above idle"),
    "fps": Metric(">=", RATE, "/s", "images a second, one batch after the other"),
}
ACCURACY = frozenset({"top1", "top1_drop"})
"""What is known only after a training."""
LATENCY = frozenset({"p50", "p95", "p99", "mean"})

EXAMPLE = 'such as "p95<=30ms, top1_drop<=1%, peak_mb<=300"'
LONGEST = 1000
"""Characters; there are but so many metrics."""
_CLAUSE = re.compile(r"([^\s<>=]*) ?(<=|>=|==|=|<|>) ?([^\s]*?) ?([a-zA-Z%/]*)")
_BOUNDED = re.compile(r"\w ?[<>=]+")
_NUMBER = re.compile(r"\d+(\.\d+)?([eE][-+]?\d+)?|\.\d+", re.ASCII)


@dataclass(frozen=True)
class Clause:
    """One bound, in the metric's own unit; a share for those in percent."""

    metric: str
    bound: float
    text: str
    """In one spelling: ``p95<=30ms``."""

    @property
    def sense(self) -> str:
        return METRICS[self.metric].sense


@dataclass(frozen=True)
class Budget:
    """Clauses, one a metric, in the order they were given."""

    clauses: tuple[Clause, ...]

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read clauses with commas between them.

        Raises:
            UsageError: no such clause: an unknown metric, the wrong direction, a missing or a wrong
                unit, a bound that is no positive number, a metric named twice, something else
                than commas between them.
        """
        if len(text) > LONGEST:
            raise UsageError(
                f"the budget has {len(text):,} characters; expected at most {LONGEST:,}, {EXAMPLE}."
            )
        clauses = tuple(_clause(" ".join(part.split())) for part in text.split(","))
        seen: set[str] = set()
        for clause in clauses:
            if clause.metric in seen:
                raise UsageError(f"the budget bounds {clause.metric} twice. Leave one out.")
            seen.add(clause.metric)
        return cls(clauses)

    def __str__(self) -> str:
        return ", ".join(clause.text for clause in self.clauses)

    def about(self, metrics: frozenset[str]) -> tuple[Clause, ...]:
        """The clauses on some metrics."""
        return tuple(clause for clause in self.clauses if clause.metric in metrics)

    @property
    def costs(self) -> tuple[Clause, ...]:
        """The clauses that a device decides, and no training does."""
        return tuple(clause for clause in self.clauses if clause.metric not in ACCURACY)

    @property
    def worth(self) -> tuple[Clause, ...]:
        """The clauses on accuracy."""
        return self.about(ACCURACY)


@dataclass(frozen=True)
class Figure:
    """What was found for a metric, in its own unit, with its 95 % interval."""

    value: float | None
    lo: float | None = None
    hi: float | None = None
    why: str = ""
    """Why there is no value, or no interval of an estimate; empty where nothing is missing."""


@dataclass(frozen=True)
class Ruling:
    """A clause and what was found of it."""

    clause: Clause
    figure: Figure
    state: State
    """``holds`` and ``fails`` with the whole interval; ``open``: the bound lies inside of it;
    ``unknown``: there is no figure."""

    @property
    def excess(self) -> float:
        """How far beyond the bound the bad end lies, as a share of the bound; 0 where it holds.

        Points of accuracy count as shares of the bound where that is not 0. Infinite without a
        figure.
        """
        if self.state == "holds":
            return 0.0
        bad = bad_end(self.clause, self.figure)
        if bad is None:
            return math.inf
        away = bad - self.clause.bound if self.clause.sense == "<=" else self.clause.bound - bad
        return max(0.0, away / self.clause.bound) if self.clause.bound else math.inf

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        figure = self.figure
        return {
            "metric": self.clause.metric,
            "clause": self.clause.text,
            "bound": self.clause.bound,
            "unit": METRICS[self.clause.metric].unit,
            "value": figure.value,
            "lo": figure.lo,
            "hi": figure.hi,
            "why": figure.why or None,
            "state": self.state,
        }


def rule(clause: Clause, figure: Figure) -> Ruling:
    """Whether a figure is within a bound, with the whole of its interval.

    What is exact has none, and needs none; an estimate without one says why, and its value alone
    does not show that the clause holds.
    """
    if figure.value is None:
        return Ruling(clause, figure, "unknown")
    ends = (_end(figure, "lo"), _end(figure, "hi"))
    inside = [e <= clause.bound if clause.sense == "<=" else e >= clause.bound for e in ends]
    shown_to_hold = all(inside) and not figure.why
    state: State = "holds" if shown_to_hold else "open" if any(inside) else "fails"
    return Ruling(clause, figure, state)


def rule_all(clauses: Sequence[Clause], figures: Mapping[str, Figure]) -> tuple[Ruling, ...]:
    """A ruling for each clause; a metric nobody measured is ``unknown``."""
    missing = Figure(None, why="not measured")
    return tuple(rule(clause, figures.get(clause.metric, missing)) for clause in clauses)


def bad_end(clause: Clause, figure: Figure) -> float | None:
    """The end of a figure's interval that is against a clause."""
    if figure.value is None:
        return None
    return _end(figure, "hi" if clause.sense == "<=" else "lo")


def shown(metric: str, value: float) -> str:
    """A value of a metric with its unit, as a clause would say it: ``30ms``, ``1%``, ``300``."""
    found = METRICS[metric]
    scaled = value * 100 if found.unit == "%" else value
    written = found.unit if found.unit in ("ms", "%") else ""
    return f"{scaled:.4g}{written}"


def figures_of(record: Mapping[str, Any]) -> dict[str, Figure]:
    """What a measurement's record says of each metric but accuracy, which needs a teacher."""
    timing = record["timing"]
    found = {name: _figure(timing[name]) for name in ("p95", "p99")}
    found["p50"] = _figure(timing["median"])  # its interval is blind to no drift
    found["mean"] = _mean(timing)
    found["fps"] = _rate(found["mean"], record["policy"]["batch_size"])
    found["peak_mb"] = _peak(record["memory"]["peak_rss_bytes"])
    found["size_mb"] = Figure(record["artifact"]["size_bytes"] / 1e6)
    found["j_per_inf"] = _joules(record["energy"])
    return found


def _peak(count: int | None) -> Figure:
    return Figure(None, why="its system does not tell") if count is None else Figure(count / 1e6)


def _mean(timing: Mapping[str, Any]) -> Figure:
    ends = timing.get("mean_interval")
    if ends is None:
        return Figure(timing["mean"], why="range n/a (1 block, need 2)")
    return Figure(timing["mean"], *ends)


def _rate(mean: Figure, batch: int) -> Figure:
    assert mean.value is not None
    slowest, fastest = (1e3 * batch / end if end else None for end in (mean.hi, mean.lo))
    return Figure(1e3 * batch / mean.value, slowest, fastest, mean.why)


def _joules(energy: Mapping[str, Any] | None) -> Figure:
    if energy is None:
        return Figure(None, why="the device has no meter")
    low, high = energy.get("j_interval") or (None, None)
    return Figure(energy["j_per_inference"], low, high, "" if low is not None else "range n/a")


def _figure(estimate: Mapping[str, Any]) -> Figure:
    value, low, high = estimate["value"], estimate["lo"], estimate["hi"]
    missing = value is None or low is None or high is None
    return Figure(value, low, high, str(estimate["method"]) if missing else "")


def _end(figure: Figure, name: Literal["lo", "hi"]) -> float:
    found = getattr(figure, name)
    assert figure.value is not None
    return figure.value if found is None else float(found)


def _clause(part: str) -> Clause:
    if ";" in part or len(_BOUNDED.findall(part)) > 1:
        raise UsageError(
            f"the budget's {part!r} has no comma between its clauses; expected {EXAMPLE}."
        )
    found = _CLAUSE.fullmatch(part)
    if found is None or not found[1]:
        raise UsageError(f"the budget's {part!r} is no clause; expected clauses {EXAMPLE}.")
    name, sense, number, unit = found.groups()
    if name not in METRICS:
        raise UsageError(f"the budget bounds {name!r}, which there is not.{hint(name, METRICS)}")
    metric = METRICS[name]
    if sense != metric.sense:
        raise UsageError(
            f"the budget says {name}{sense}; expected {name}{metric.sense}, as {metric.title} is "
            f"to be {'small' if metric.sense == '<=' else 'large'}."
        )
    return Clause(name, *_bound(name, number, unit))


def _bound(name: str, number: str, unit: str) -> tuple[float, str]:
    metric, is_share = METRICS[name], METRICS[name].unit == "%"
    units = " or ".join(u or "no unit" for u in metric.units)
    wanted = f"a number {'at least' if name == 'top1_drop' else 'more than'} 0"
    wanted += " and at most 100" if is_share else ""
    with_what = f"the budget bounds {name} with"
    if not number and unit in ("", *metric.units):
        raise UsageError(f"{with_what} no number; expected {wanted}, and its unit: {units}.")
    if unit not in metric.units:
        found = f"the unit {unit!r}" if unit else f"{number!r} and no unit"
        raise UsageError(f"{with_what} {found}; expected {units}.")
    value = metric.units[unit] * (float(number) if _NUMBER.fullmatch(number) else math.nan)
    if math.isinf(value) and not is_share:
        raise UsageError(
            f"{with_what} {number!r}, which is too large; expected {wanted} and less than 1e300."
        )
    large_enough = value >= 0 if name == "top1_drop" else value > 0
    if not large_enough or (is_share and value > 1):
        raise UsageError(f"{with_what} {number!r}; expected {wanted}.")
    return value, f"{name}{metric.sense}{number}{unit}"
