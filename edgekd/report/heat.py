"""The picture of a sustained measurement: latency above, temperature and frequency beneath."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.report import text
from edgekd.report.endurance import conclusion, held_back, minutes, sustained_records
from edgekd.report.figures import Figure, curve, drawn, shown
from edgekd.report.models import model_name
from edgekd.report.places import Record, clock, clock_name
from edgekd.report.view import RunView, number

PANELS = (  # key of a row, what it is called, unit, factor, colour, mark
    ("temperature_c", "hottest zone", "°C", 1.0, "#a6609a", "triangle-up"),
    ("core_khz", "fastest core used", "GHz", 1e-6, "#009e73", "diamond"),
)
TOP = 0.5  # of the height, where the panel of latencies ends
GAP = 0.07  # between panels
PANEL = 110  # pixels that each adds


def heat_figures(view: RunView) -> list[Figure]:
    """One for each model on each device that was measured for minutes, each of one clock."""
    return [
        _figure(view, record, f"sustained-{index + 1}")
        for index, record in enumerate(sustained_records(view))
    ]


def _figure(view: RunView, record: Record, name: str) -> Figure:
    import plotly.graph_objects as go

    rows, figure = minutes(record), go.Figure()
    at = [number(row["minute"]) or 0.0 for row in rows]
    for key, colour, symbol in (("median", "#d55e00", "circle"), ("p95", "#0072b2", "square")):
        known = [(x, value) for x, row in zip(at, rows, strict=True) if (value := _at(row, key))]
        if known:
            figure.add_trace(_curve(key, known, "ms", colour, symbol))
    held = [(x, _at(row, "median")) for x, row in zip(at, rows, strict=True) if held_back(row)]
    if held:
        figure.add_trace(_held(held))
    present = [panel for panel in PANELS if any(_at(row, panel[0]) is not None for row in rows)]
    for index, (key, called, unit, factor, colour, symbol) in enumerate(present):
        known = [
            (x, value * factor)
            for x, row in zip(at, rows, strict=True)
            if (value := _at(row, key)) is not None
        ]
        trace = _curve(called, known, unit, colour, symbol)
        trace.yaxis = f"y{index + 2}"
        figure.add_trace(trace)
    _stack(figure, [panel[2] for panel in present], shown(clock_name(clock(record))))
    title = f"Sustained: {model_name(view, record)}"
    words = ", ".join(["median and p95 latency", *(panel[1] for panel in present)])
    told = f"{title}: {words} by minute; the numbers are in the table below."
    return drawn(figure, name, title, told, conclusion(record), height=360 + PANEL * len(present))


def _at(row: Mapping[str, Any], key: str) -> float | None:
    return number(row.get(key))


def _curve(
    name: str, known: Sequence[tuple[float, float]], unit: str, colour: str, symbol: str
) -> Any:
    hover = [f"minute {x:.4g}: {text.significant(value)} {unit}" for x, value in known]
    return curve(name, [x for x, _ in known], [v for _, v in known], colour, symbol, hover)


def _held(points: Sequence[tuple[float, float | None]]) -> Any:
    import plotly.graph_objects as go

    return go.Scatter(
        x=[x for x, _ in points],
        y=[y for _, y in points],
        mode="markers",
        name="held back",
        marker={"symbol": "x", "color": "#7f7f7f", "size": 13},
        hoverinfo="text",
        hovertext=[f"minute {x:.4g}: the board held itself back" for x, _ in points],
    )


def _stack(figure: Any, units: Sequence[str], clock: str) -> None:
    """Panels under each other over one axis of minutes, none of them with two units."""
    top = TOP if units else 0.0
    figure.update_yaxes(title=f"{clock}, ms", rangemode="tozero", domain=[top, 1])
    height = (top - GAP * len(units)) / max(len(units), 1)
    for index, unit in enumerate(units):
        high = top - GAP * (index + 1) - height * index
        axis = {"title": unit, "domain": [max(high - height, 0.0), high], "nticks": 4}
        figure.update_layout({f"yaxis{index + 2}": axis})
    figure.update_xaxes(title="Minute", rangemode="tozero")
    if units:  # the axis of minutes belongs under the last
        figure.update_xaxes(anchor=f"y{len(units) + 1}")
