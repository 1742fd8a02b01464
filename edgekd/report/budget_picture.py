"""The Pareto picture of a budget: every attempt's accuracy against its cost, and the bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekd.budget import ACCURACY, LATENCY, METRICS
from edgekd.report import bounded, budgets, clauses, text
from edgekd.report.figures import COLOURS, SYMBOLS, Figure, drawn, shown
from edgekd.report.places import clock_name
from edgekd.report.view import Estimate, Percentile, Result, RunView, dig, number

HINT = "Up is better; bars are the intervals that were judged by, numbers count the attempts below."


@dataclass(frozen=True)
class Point:
    """A model in the picture; accuracy in percent, cost in its metric's unit."""

    name: str
    role: str
    x: float
    y: float
    across: tuple[float | None, float | None]
    along: tuple[float | None, float | None]
    mark: str
    said: str


def budget_figure(view: RunView) -> Figure | None:
    """None where no attempt has both a cost and an accuracy."""
    ruled = clauses.rulings(view.budget.get("rulings")) or _first_rulings(view)
    metric = clauses.axis_metric(ruled)
    points = _attempts(view, metric)
    if not points:
        return None
    points += [p for role in ("teacher", "baseline") if (p := _beside(view, role, metric))]
    cost = bounded.bound_of(clauses.of_metric(ruled, metric))
    teacher, worth = _teacher(view), _worth(view, ruled)
    x = bounded.cost_axis([*_spread(points, "x", "across"), *([cost.at] if cost else [])])
    levels = [*([worth.at] if worth else []), *([teacher] if teacher else [])]
    y = bounded.share_axis([*_spread(points, "y", "along"), *levels])
    return _drawn(view, metric, points, (x, y), (cost, worth), teacher)


def _drawn(
    view: RunView,
    metric: str,
    points: list[Point],
    axes: tuple[bounded.Axis, bounded.Axis],
    bounds: tuple[bounded.Bound | None, bounded.Bound | None],
    teacher: float | None,
) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    beyond = _beyond(view, metric)
    region = "within these bounds" if beyond else "allowed by the budget"
    bounded.draw(figure, axes, bounds, region)
    if teacher is not None and not any(p.role == "teacher" for p in points):
        figure.add_trace(_level(axes[0], teacher))
    for role in dict.fromkeys(point.role for point in points):
        figure.add_trace(_trace([point for point in points if point.role == role], role, view))
    clocks = {line.clock for line in view.results if line.clock}
    clock = clock_name(clocks.pop()) if len(clocks) == 1 and metric in LATENCY else ""
    figure.update_xaxes(title=bounded.cost_title(metric, clock), **axes[0].layout)
    figure.update_yaxes(title="Validation top-1 in %", **axes[1].layout)
    words = ", ".join(point.name for point in points)
    limits = " and ".join(bound.name for bound in bounds if bound) or "no bound in this plane"
    return drawn(
        figure,
        "budget-front",
        "Accuracy against cost, and the budget",
        f"Accuracy against {METRICS[metric].title} of {words}, with {limits} as lines; "
        "the numbers are in the table of attempts.",
        HINT + (f" The picture has no axis for {' and '.join(beyond)}." if beyond else ""),
        height=440,
    )


def _beyond(view: RunView, metric: str) -> list[str]:
    """The clauses on what neither axis shows."""
    ruled = clauses.rulings(view.budget.get("rulings")) or _first_rulings(view)
    others = [r for r in ruled if r["metric"] != metric and r["metric"] not in ACCURACY]
    return [clauses.clause_of(ruling) for ruling in others]


def _first_rulings(view: RunView) -> list[clauses.Ruling]:
    found = [clauses.rulings(attempt.get("rulings")) for attempt in budgets.attempts(view)]
    return next((ruled for ruled in found if ruled), [])


def _spread(points: list[Point], value: str, ends: str) -> list[float]:
    found = [getattr(point, value) for point in points]
    return found + [end for point in points for end in getattr(point, ends) if end is not None]


def _attempts(view: RunView, metric: str) -> list[Point]:
    found, taken = [], budgets.accepted(view)
    for index, attempt in enumerate(budgets.attempts(view)):
        ruling = clauses.of_metric(clauses.rulings(attempt.get("rulings")), metric)
        accuracy = budgets.validation(attempt)
        value = number(dig(ruling, "value"))
        if value is not None and accuracy is not None:
            ends = (number(dig(ruling, "lo")), number(dig(ruling, "hi")))
            called = f"{index + 1}. {budgets.plan(attempt)}"
            role = "student" if index == taken else "attempt"
            found.append(_point(called, role, str(index + 1), metric, (value, *ends), accuracy))
    return found


def _point(
    name: str,
    role: str,
    mark: str,
    metric: str,
    cost: tuple[float, float | None, float | None],
    accuracy: Estimate,
) -> Point:
    lo, hi = (None if end is None else 100 * end for end in (accuracy.lo, accuracy.hi))
    said = [
        f"<b>{shown(name)}</b>",
        f"top-1 {text.percent(accuracy.value, accuracy.n)} {text.percent_interval(accuracy)}",
        f"{metric} {clauses.amount(metric, *cost)}",
    ]
    y = 100 * accuracy.value
    return Point(name, role, cost[0], y, cost[1:], (lo, hi), mark, "<br>".join(said))


def _beside(view: RunView, role: str, metric: str) -> Point | None:
    """The teacher or the baseline, where it was measured and judged on validation images."""
    line = view.result(role)
    cost = _cost(line, metric) if line else None
    accuracy = _validated(view, role)
    if line is None or cost is None or accuracy is None:
        return None
    name = text.plain(f"{role}: {line.network}", 60)
    return _point(name, role, "", metric, cost, accuracy)


def _cost(line: Result, metric: str) -> tuple[float, float | None, float | None] | None:
    """What a line of the results says of a metric, in the metric's unit."""
    sizes = {"peak_mb": line.peak_rss_bytes, "size_mb": line.size_bytes}
    if metric in sizes:
        size = sizes[metric]
        return None if size is None else (size / 1e6, None, None)
    found = line.median if metric == "p50" else line.latency.get(metric, Percentile(None))
    if found is None or found.value is None:
        return None
    return found.value, found.lo, found.hi


def _validated(view: RunView, role: str) -> Estimate | None:
    metrics: Mapping[str, Any] | None = next(
        (
            found
            for artifact in view.artifacts
            if artifact.kind == "network" and artifact.role == role
            if isinstance(found := dig(artifact.manifest, "metrics", "validation"), Mapping)
        ),
        None,
    )
    return budgets.judged(metrics)


def _teacher(view: RunView) -> float | None:
    """The teacher's accuracy on the validation images, in percent."""
    found = [number(dig(a, "validation", "teacher")) for a in budgets.attempts(view)]
    value = next((value for value in found if value is not None), None)
    if value is None and (known := _validated(view, "teacher")):
        value = known.value
    return None if value is None else 100 * value


def _worth(view: RunView, ruled: list[clauses.Ruling]) -> bounded.Bound | None:
    """The stricter of the bounds on accuracy."""
    floor = bounded.bound_of(clauses.of_metric(ruled, "top1"))
    drop, teacher = bounded.bound_of(clauses.of_metric(ruled, "top1_drop")), _teacher(view)
    if drop is None or teacher is None:
        return floor
    below = bounded.Bound(teacher - drop.at, False, drop.name)
    return max((b for b in (floor, below) if b), key=lambda bound: bound.at)


def _level(x: bounded.Axis, teacher: float) -> Any:
    """The teacher where its cost is not known: a line at its accuracy."""
    import plotly.graph_objects as go

    return go.Scatter(
        x=[x.low, x.high],
        y=[teacher, teacher],
        mode="lines",
        name="teacher's accuracy",
        line={"color": COLOURS["teacher"], "width": 2, "dash": "dot"},
        hoverinfo="skip",
    )


def _trace(points: list[Point], role: str, view: RunView) -> Any:
    import plotly.graph_objects as go

    colour = COLOURS[role]
    taken = "taken" if view.budget.get("state") == "holds" else "nearest attempt"
    names = {"student": taken, "attempt": "attempts"}
    return go.Scatter(
        x=[point.x for point in points],
        y=[point.y for point in points],
        mode="markers+text",
        text=[point.mark for point in points],
        textposition="top right",
        name=names.get(role) or shown(points[0].name),
        marker={"symbol": SYMBOLS[role], "color": colour, "size": 15 if role == "student" else 11},
        error_x=bounded.error_bars([p.x for p in points], [p.across for p in points], colour),
        error_y=bounded.error_bars([p.y for p in points], [p.along for p in points], colour),
        hoverinfo="text",
        hovertext=[point.said for point in points],
        cliponaxis=False,
    )
