"""The picture of a scout: prior accuracy against the latency that was measured."""

from __future__ import annotations

from typing import Any

from edgekd.budget import LATENCY
from edgekd.report import bounded, clauses, text
from edgekd.report.figures import Figure, drawn, shown
from edgekd.report.scouted import Candidate, bases, called, candidates, fit_of
from edgekd.report.view import RunView, dig, listed, number

Placed = tuple[Candidate, float, float]
"""A candidate, its time in ms, and its prior in percent."""

LOOKS = {  # colour, mark, what it is called
    "fits": ("#009e73", "circle", "fits"),
    "tight": ("#0072b2", "square", "tight"),
    "over": ("#d55e00", "x", "over"),
    "unknown": ("#7f7f7f", "diamond", "undecided"),
}


MEDIAN = "p50"


def scout_figure(view: RunView) -> Figure | None:
    """None where no candidate has both a prior and a latency."""
    metric, bound = _bounded(view)
    placed = _placed(view, metric)
    if not placed:  # too few runs for that percentile, so there is nothing to hold against it
        metric, bound = MEDIAN, bound if metric == MEDIAN else None
        placed = _placed(view, metric)
    if not placed:
        return None
    import plotly.graph_objects as go

    figure = go.Figure()
    times = [x for _, x, _ in placed]
    axis = bounded.cost_axis([*times, *([bound.at] if bound else [])])
    worth = bounded.share_axis([y for _, _, y in placed])
    bounded.draw(figure, (axis, worth), (bound, None), "within the bound")
    front = sorted((x, y) for c, x, y in placed if c.get("pareto") is True)
    if front:
        figure.add_trace(_front(front))
    judged = bool(view.scout.get("budget"))
    for fits in LOOKS:
        mine = [entry for entry in placed if fit_of(entry[0]) == fits]
        if mine:
            figure.add_trace(_trace(mine, metric, fits, judged))
    published = ", published" * (bases([c for c, _, _ in placed]) == ["published"])
    figure.update_xaxes(title=f"{bounded.TITLES[metric]}, measured", **axis.layout)
    figure.update_yaxes(title=f"Prior top-1 in %{published}", **worth.layout)
    title = "Candidates: prior accuracy against measured latency"
    counts = ", ".join(
        f"{n} {LOOKS[fits][2]}"
        for fits in LOOKS
        if (n := sum(fit_of(c) == fits for c, _, _ in placed))
    )
    alternative = f"{title}: {counts}; the numbers are in the table of candidates."
    return drawn(figure, "scout-front", title, alternative, _hint(view, metric, placed), 440)


def _hint(view: RunView, metric: str, placed: list[Placed]) -> str:
    """What the line is, and who is not in the picture."""
    said = "The dotted line is the front: nothing is both faster and better by its prior."
    if metric != MEDIAN:
        said = "The dotted line is the front by the median, where nothing is faster and better."
    wanted = _bounded(view)[0]
    if wanted != metric:
        said += f" Nobody was timed often enough for {wanted}, so its bound is not drawn."
    timed = [c for c in candidates(view) if _time(c, MEDIAN)[0]]
    unproven = sum(1 for c in timed if not _prior(c))
    unsure = len(timed) - unproven - len(placed)
    for missing, what in ((unproven, "a prior"), (unsure, metric)):
        if missing > 0:
            said += (
                f" {missing} without {what} {'is' if missing == 1 else 'are'} in the table only."
            )
    return said


def _placed(view: RunView, metric: str) -> list[Placed]:
    """Candidates with their time in ms and their prior in percent."""
    return [
        (candidate, x, y)
        for candidate in candidates(view)
        if (x := _time(candidate, metric)[0]) and (y := _prior(candidate))
    ]


def _time(candidate: Candidate, metric: str) -> tuple[float | None, float | None, float | None]:
    """A latency with its interval; scouts write the mean's beside it."""
    if metric == "mean":
        ends = listed(candidate.get("mean_interval")) or [None, None]
        return number(candidate.get("mean")), number(ends[0]), number(ends[-1])
    found = candidate.get("median" if metric == MEDIAN else metric)
    value, low, high = (number(dig(found, key)) for key in ("value", "lo", "hi"))
    return value, low, high


def _prior(candidate: Candidate) -> float | None:
    value = number(dig(candidate, "prior", "value"))
    return None if value is None else 100 * value


def _bounded(view: RunView) -> tuple[str, bounded.Bound | None]:
    """The latency that the budget bounds, as any of the candidates was held against it."""
    for candidate in candidates(view):
        for ruling in clauses.rulings(candidate.get("rulings")):
            if ruling["metric"] in LATENCY:
                return str(ruling["metric"]), bounded.bound_of(ruling)
    return MEDIAN, None


def _front(points: list[tuple[float, float]]) -> Any:
    import plotly.graph_objects as go

    return go.Scatter(
        x=[x for x, _ in points],
        y=[y for _, y in points],
        mode="lines",
        name="front",
        line={"color": "#7f7f7f", "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
    )


def _trace(placed: list[Placed], metric: str, fits: str, judged: bool) -> Any:
    import plotly.graph_objects as go

    colour, symbol, name = LOOKS[fits]
    times, shares = [x for _, x, _ in placed], [y for _, _, y in placed]
    ends = [_time(candidate, metric)[1:] for candidate, _, _ in placed]
    return go.Scatter(
        x=times,
        y=shares,
        mode="markers",
        name=name if judged else "candidates",
        marker={"symbol": symbol, "color": colour, "size": 10},
        error_x=bounded.error_bars(times, ends, colour),
        hoverinfo="text",
        hovertext=[_said(candidate) for candidate, _, _ in placed],
        cliponaxis=False,
    )


def _said(candidate: Candidate) -> str:
    median = [number(dig(candidate, "median", key)) for key in ("value", "lo", "hi")]
    p95, prior = number(dig(candidate, "p95", "value")), number(dig(candidate, "prior", "value"))
    basis = text.plain(dig(candidate, "prior", "basis") or "", 20)
    said = [
        f"<b>{shown(called(candidate))}</b>",
        f"median {text.within(median[0] or 0.0, median[1], median[2], 'ms')}",
        f"p95 {text.milliseconds(p95)}" if p95 is not None else "",
        f"prior {text.percent(prior)} ({shown(basis)})",
    ]
    return "<br>".join(line for line in said if line)
