"""What the pictures with a budget share: its bounds as lines, and where it lets a model be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekd.budget import METRICS
from edgekd.report import clauses, text
from edgekd.report.figures import shown

ALLOWED, BOUND = "rgba(0,158,115,0.13)", "#009e73"
TITLES = {
    "p50": "Median latency in ms",
    "p95": "p95 latency in ms",
    "p99": "p99 latency in ms",
    "mean": "Mean latency in ms",
    "peak_mb": "Peak memory in MB",
    "size_mb": "Size of the files in MB",
    "j_per_inf": "Energy of an inference in J",
    "fps": "Images a second",
}
WIDE = 10
"""Largest over smallest from which an axis is logarithmic."""


@dataclass(frozen=True)
class Bound:
    """A bound on an axis: at most or at least ``at``, in its unit; ``name`` as in a legend."""

    at: float
    most: bool
    name: str


@dataclass(frozen=True)
class Axis:
    """The range that an axis shows, and whether in powers of ten."""

    low: float
    high: float
    log: bool = False

    @property
    def layout(self) -> dict[str, Any]:
        """As Plotly takes it."""
        if not self.log:
            return {"range": [self.low, self.high]}
        return {
            "type": "log",
            "range": [math.log10(self.low), math.log10(self.high)],
            "dtick": "D2",
        }


def cost_axis(values: Sequence[float], room: float = 1.12) -> Axis:
    """From nothing, where that leaves the points apart; else in powers of ten."""
    low, high = min(values), max(values)
    if low > 0 and high > WIDE * low:
        return Axis(low / (1.3 * room), high * 1.3 * room, log=True)
    return Axis(min(0.0, low), high * room if high > 0 else 1.0)


def share_axis(values: Sequence[float]) -> Axis:
    """Percent, with room around, and no further than 0 to 100."""
    low, high = min(values), max(values)
    room = max(0.14 * (high - low), 1.0)
    return Axis(max(low - room, 0.0), min(high + room, 101.0))


def cost_title(metric: str, clock: str = "") -> str:
    """``p95 latency in ms``, short enough for a narrow picture."""
    return TITLES[metric] + (f"<br>{shown(clock)}" if clock else "")


def bound_of(ruling: clauses.Ruling | None) -> Bound | None:
    """The bound that a ruling is about; shares become percent."""
    value = None if ruling is None else ruling.get("bound")
    if ruling is None or not isinstance(value, int | float):
        return None
    metric = str(ruling["metric"])
    known, scale = METRICS.get(metric), 100 if clauses.UNITS.get(metric) == "%" else 1
    return Bound(scale * value, known is None or known.sense == "<=", clauses.clause_of(ruling))


def draw(
    figure: Any,
    axes: tuple[Axis, Axis],
    bounds: tuple[Bound | None, Bound | None],
    allowed: str = "allowed by the budget",
) -> None:
    """Shade where the bounds on cost and worth let a model be, and draw them."""
    (x, y), (cost, worth) = axes, bounds
    if cost is None and worth is None:
        return
    left, right = _span(x, cost)
    bottom, top = _span(y, worth)
    if left < right and bottom < top:
        corners = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
        figure.add_trace(_line(corners, allowed, fill=True))
    if cost:
        figure.add_trace(_line([(cost.at, y.low), (cost.at, y.high)], cost.name))
    if worth:
        figure.add_trace(_line([(x.low, worth.at), (x.high, worth.at)], worth.name, dash="dash"))


def _span(axis: Axis, bound: Bound | None) -> tuple[float, float]:
    if bound is None:
        return axis.low, axis.high
    return (axis.low, min(bound.at, axis.high)) if bound.most else (bound.at, axis.high)


def _line(
    points: Sequence[tuple[float, float]], name: str, dash: str = "solid", fill: bool = False
) -> Any:
    import plotly.graph_objects as go

    looks: dict[str, Any] = {"line": {"color": BOUND, "width": 2, "dash": dash}}
    if fill:
        looks = {"fill": "toself", "fillcolor": ALLOWED, "line": {"width": 0}}
    return go.Scatter(
        x=[x for x, _ in points],
        y=[y for _, y in points],
        mode="lines",
        name=shown(text.plain(name, 40)),
        hoverinfo="skip",
        **looks,
    )


def error_bars(
    values: Sequence[float], ends: Sequence[tuple[float | None, float | None]], colour: str
) -> dict[str, Any]:
    """Intervals of several points; a point without one has a bar of no length."""
    known = [
        (0.0, 0.0) if lo is None or hi is None else (max(value - lo, 0.0), max(hi - value, 0.0))
        for value, (lo, hi) in zip(values, ends, strict=True)
    ]
    return {
        "type": "data",
        "symmetric": False,
        "array": [up for _, up in known],
        "arrayminus": [down for down, _ in known],
        "color": colour,
        "thickness": 1.5,
    }
