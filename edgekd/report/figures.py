"""The pictures, as Plotly figures: hover shows the numbers, and a mark's shape says whose it is.

Text and lines that are not data take their colours from the page's style sheet, so that a picture
follows the theme. The colours of the data are Okabe and Ito's, which colour-blind people can tell
apart, as far as they stand out 3:1 on both backgrounds.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekd.report import text
from edgekd.report.curves import told
from edgekd.report.places import anchor, clock_name, clock_rank
from edgekd.report.view import ROLES, Estimate, Percentile, Result, RunView, Training, count

COLOURS = {
    "teacher": "#0072b2",
    "baseline": "#009e73",
    "attempt": "#a6609a",
    "student": "#d55e00",
    "": "#7f7f7f",
}
SYMBOLS = {
    "teacher": "square",
    "baseline": "triangle-up",
    "attempt": "x",
    "student": "circle",
    "": "diamond",
}
SEQUENCE = ("#d55e00", "#0072b2", "#009e73", "#a6609a", "#7f7f7f")
SEQUENCE_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "x")
MOST_POINTS = 400
"""A curve with more is thinned: no screen shows more, and the file stays small."""


@dataclass(frozen=True)
class Figure:
    """A picture: ``name`` is its anchor, ``alternative`` the words for who cannot see it."""

    name: str
    title: str
    alternative: str
    data: str
    """The figure as JSON, safe inside a ``<script>`` element."""
    hint: str = ""
    """How to read it."""


def figures(view: RunView) -> tuple[list[Figure], list[Figure]]:
    """The pictures of accuracy against latency, and those of the trainings."""
    trainings = told(view)
    many = bool(view.budget or view.compare)  # then the losses of the taken student will do
    curves = [_validation_figure(trainings)]
    curves += [
        _loss_figure(training, f"loss-{index + 1}")
        for index, training in enumerate(trainings)
        if not many or training.name in ROLES
    ]
    return _fronts(view.results), [curve for curve in curves if curve]


def _fronts(results: Sequence[Result]) -> list[Figure]:
    """One for each clock and device: times of two clocks cannot share an axis."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for line in results:
        groups.setdefault((line.clock, line.place), []).append(line)
    several = len({place for clock, place in groups if clock or place}) > 1
    found: list[Figure] = []
    for clock, place in sorted(groups, key=lambda group: clock_rank(group[0])):
        where = f" on {text.plain(place, 60)}" if several and place else ""
        front = _front(groups[clock, place], clock, where, anchor("front", len(found)))
        found += [front] if front else []
    return found


def _front(results: Sequence[Result], clock: str, where: str, called: str) -> Figure | None:
    """Accuracy against median latency, with the intervals of both."""
    placed = [
        (line, line.accuracy, line.median)
        for line in results
        if line.accuracy and line.median and line.median.value
    ]
    if not placed:
        return None
    import plotly.graph_objects as go

    figure = go.Figure()
    words = _told_apart([line for line, _, _ in placed])
    for name, (line, accuracy, median) in zip(words, placed, strict=True):
        figure.add_trace(_point(name, line, accuracy, median))
    values = [median.value for _, _, median in placed if median.value]
    log = max(values) > 10 * min(values)
    axis = {"type": "log", "dtick": "D2"} if log else {"rangemode": "tozero"}
    title = "Median latency in ms" + " (log scale)" * log
    figure.update_xaxes(title=f"{title}<br>{shown(clock_name(clock))}", **axis)
    figure.update_yaxes(title="Top-1 accuracy in %")
    return drawn(
        figure,
        called,
        f"Accuracy against latency{where}",
        f"Accuracy against latency{where} of {', '.join(words)}; "
        "the numbers are in the table of results.",
        "Up and to the left is better; the bars are 95% intervals.",
    )


def _told_apart(results: Sequence[Result]) -> list[str]:
    """Role and network of each, and the precision where that is all they differ in."""
    names = [_name(line.role, line.network) for line in results]
    return [
        f"{name}, {text.plain(line.precision, 20)}" if names.count(name) > 1 else name
        for name, line in zip(names, results, strict=True)
    ]


def _point(name: str, line: Result, accuracy: Estimate, median: Percentile) -> Any:
    import plotly.graph_objects as go

    x, y = median.value or 0.0, 100 * accuracy.value
    role = line.role if line.role in COLOURS else ""
    said = [
        f"<b>{shown(_name(line.role, line.network))}</b>",
        f"top-1 {text.percent(accuracy.value, accuracy.n)} {text.percent_interval(accuracy)}",
        text.latency(median, interval=True),
        shown(line.precision),
    ]
    lo, hi = accuracy.lo, accuracy.hi
    return go.Scatter(
        x=[x],
        y=[y],
        mode="markers",
        name=shown(name),
        marker={"symbol": SYMBOLS[role], "color": COLOURS[role], "size": 13},
        error_x=_errors(x, median.lo, median.hi, COLOURS[role]),
        error_y=_errors(y, lo and 100 * lo, hi and 100 * hi, COLOURS[role]),
        hoverinfo="text",
        hovertext=["<br>".join(line for line in said if line)],
    )


def _errors(value: float, lo: float | None, hi: float | None, colour: str) -> dict[str, Any]:
    if lo is None or hi is None:
        return {"visible": False}
    ends = {"array": [max(hi - value, 0.0)], "arrayminus": [max(value - lo, 0.0)]}
    return {"type": "data", "symmetric": False, "color": colour, "thickness": 1.5, **ends}


def _validation_figure(trainings: Sequence[Training]) -> Figure | None:
    """Validation accuracy after each epoch, of every training."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for index, training in enumerate(trainings):
        found = [
            (p.epoch, p.validation["top1"], p) for p in training.epochs if "top1" in p.validation
        ]
        role = training.name
        if found:
            figure.add_trace(
                curve(
                    training.name,
                    [epoch for epoch, _, _ in found],
                    [100 * value for _, value, _ in found],
                    COLOURS.get(role, SEQUENCE[index % len(SEQUENCE)]),
                    SYMBOLS.get(role, SEQUENCE_SYMBOLS[index % len(SEQUENCE_SYMBOLS)]),
                    [
                        f"epoch {epoch:.0f}: {text.percent(v, count(p.validation.get('n')))}"
                        for epoch, v, p in found
                    ],
                )
            )
    if not figure.data:
        return None
    figure.update_xaxes(title="Epoch", rangemode="tozero")
    figure.update_yaxes(title="Validation top-1 in %")
    title = "Validation accuracy by epoch"
    return drawn(figure, "validation", title, f"{title}; the numbers are in the tables below.")


def _loss_figure(training: Training, name: str) -> Figure | None:
    """The weighted loss terms of one training."""
    import plotly.graph_objects as go

    figure = go.Figure()
    points = training.losses[:: max(1, -(-len(training.losses) // MOST_POINTS))]
    terms = list(dict.fromkeys(term for point in points for term in point.losses))
    for index, term in enumerate(terms):
        found = [(p.epoch, p.losses[term]) for p in points if term in p.losses]
        figure.add_trace(
            curve(
                term,
                [round(epoch, 3) for epoch, _ in found],
                [value for _, value in found],
                SEQUENCE[index % len(SEQUENCE)],
                SEQUENCE_SYMBOLS[index % len(SEQUENCE_SYMBOLS)],
                [f"epoch {e:.1f}: {shown(term)} {text.significant(v)}" for e, v in found],
            )
        )
    if not figure.data:
        return None
    figure.update_xaxes(title="Epoch", rangemode="tozero")
    figure.update_yaxes(title="Weighted loss", rangemode="tozero")
    title = f"Loss of the {text.plain(training.name, 40)}"
    said = f"{title} by epoch, terms {', '.join(text.plain(term, 40) for term in terms)}"
    return drawn(figure, name, title, f"{said}; the numbers are in the tables below.")


def curve(
    name: str, x: list[float], y: list[float], colour: str, symbol: str, hover: list[str]
) -> Any:
    """A curve with a dozen marks, so that its shape can be told where it is not its colour."""
    import plotly.graph_objects as go

    return go.Scatter(
        x=x,
        y=[float(f"{value:.5g}") for value in y],
        mode="lines+markers",
        name=shown(text.plain(name, 40)),
        line={"color": colour, "width": 2},
        marker={"symbol": symbol, "color": colour, "size": 8, "maxdisplayed": 12},
        hoverinfo="text",
        hovertext=[f"{shown(text.plain(name, 40))}, {words}" for words in hover],
    )


def _name(role: str, network: str) -> str:
    return text.plain(f"{role}: {network}" if role else network, 40)


def shown(name: str) -> str:
    """A name in a figure, where Plotly would read ``<b>`` and ``<a href>`` as markup."""
    return html.escape(text.plain(name), quote=False)


def drawn(
    figure: Any,
    name: str,
    title: str,
    alternative: str,
    hint: str = "",
    height: int = 360,
    left: int = 60,
) -> Figure:
    """The figure in the page's style."""
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": left, "r": 16, "t": 36, "b": 52},
        height=height,
        showlegend=True,
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "bgcolor": "rgba(0,0,0,0)",
        },
        font={"family": "system-ui, sans-serif", "size": 13},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(automargin=True, title_font_size=13, zeroline=False, showline=True)
    figure.update_yaxes(automargin=True, title_font_size=13, zeroline=False)
    return Figure(name, title, alternative, script_json(json.loads(figure.to_json())), hint)


def script_json(value: Any) -> str:
    """JSON that no text inside can end early, whatever element of HTML it stands in."""
    dumped = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return dumped.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
