"""Methods side by side on one teacher and student: how much each gains, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.report import text
from edgekd.report.figures import Figure, drawn, shown
from edgekd.report.table import Cell, Column, Table, lines, table
from edgekd.report.view import RunView, count, dig, listed, number

GAIN, SEED = "#d55e00", "#0072b2"
LONGEST = 40
"""Characters of a method's formula in a picture."""
ROW = 54
"""Pixels of a row of the picture."""

Method = Mapping[str, Any]


def methods(view: RunView) -> list[Method]:
    """In the order in which they were given."""
    return [entry for entry in listed(view.compare.get("methods")) if isinstance(entry, Mapping)]


def compare_sentences(view: RunView) -> list[str]:
    """What was compared, who won if anybody did, and what seeds have in common."""
    if not methods(view):
        return []
    said = [text.plain(dig(view.compare, key, "sentence") or "") for key in ("winner", "order")]
    return [f"{compared(view)}.", *filter(None, said)]


def compared(view: RunView) -> str:
    """``5 methods that teach resnet8 by resnet56, 3 seeds, 30 epochs``."""
    n, seeds = len(methods(view)), len(listed(view.compare.get("seeds")))
    student = text.plain(view.compare.get("student") or "a student", 60)
    teacher = text.plain(dig(view.compare, "teacher", "name") or "a teacher", 60)
    epochs = count(view.compare.get("epochs"))
    parts = [f"{n} method{'s' * (n != 1)} of teaching {student} by {teacher}"]
    parts += [f"{seeds} seed{'s' * (seeds != 1)}"] if seeds else []
    parts += [f"{epochs:,} epoch{'s' * (epochs != 1)}"] if epochs else []
    return ", ".join(parts)


def methods_table(view: RunView) -> Table | None:
    """Means over the seeds, and the gain over the student alone, paired by seed."""
    head = [Column("Method", False), Column("Validation top-1"), Column("Test top-1")]
    head += [Column("Gain in points [95%]"), Column("By seed"), Column("A step")]
    head += [Column("Whole step, over alone")]
    rows = [_row(method) for method in methods(view)]
    seeds = len(listed(view.compare.get("seeds")))
    spread = "Below an accuracy: the worst and the best seed. " if seeds > 1 else ""
    caption = f"Means over {seeds or 'the'} seed{'s' * (seeds != 1)}. {spread}{_basis(view)}"
    pass_ms = number(view.compare.get("teacher_ms_per_step"))
    if pass_ms is not None:
        shared = text.milliseconds(pass_ms)
        caption += f" A step is the student's alone; the teacher's pass, {shared}, was shared by "
        caption += "all, and is in the whole step that a method would take by itself."
        hits = number(view.compare.get("teacher_hits"))
        caption += f" {hits:.0%} of its answers were there already." if hits else ""
    return table("methods", caption.strip(), head, rows)


def _basis(view: RunView) -> str:
    found = [dig(method, "gain", "basis") for method in methods(view)]
    basis = next((text.plain(each) for each in found if each), "")
    return f"The gain is over the student alone, on {basis}." if basis else ""


def _row(method: Method) -> list[Cell]:
    value, lo, hi = (number(dig(method, "gain", key)) for key in ("value", "lo", "hi"))
    images = count(dig(next(iter(listed(method.get("runs"))), {}), "n_test"))
    seeds = [number(each) for each in listed(dig(method, "gain", "per_seed"))]
    step, over = (number(dig(method, "cost", key)) for key in ("ms_per_step", "over_alone"))
    alone = "the student alone" if method.get("alone") is True else ""
    failed = text.plain(method.get("failed") or "")
    return [
        Cell(text.plain(method.get("method"), 80), note=lines(alone, failed)),
        _mean(method.get("validation"), _images(method, "n_validation")),
        _mean(method.get("test"), images),
        Cell(text.difference(value, [lo, hi], images), value),
        Cell(
            ", ".join(text.points(each, images) for each in seeds if each is not None) or text.NONE
        ),
        Cell(text.milliseconds(step), step),
        Cell(text.NONE if over is None else text.times(over), over),
    ]


def _images(method: Method, key: str) -> int | None:
    return count(dig(next(iter(listed(method.get("runs"))), {}), key))


def _mean(found: Any, n: int | None) -> Cell:
    mean = number(dig(found, "mean"))
    least, most = number(dig(found, "min")), number(dig(found, "max"))
    spread = (
        ""
        if least is None or most is None or least == most
        else (f"{text.percent(least, n)} to {text.percent(most, n)}")
    )
    return Cell(text.percent(mean, n), mean, lines(spread, f"n = {n:,}" if n else ""))


def runs_table(view: RunView) -> Table | None:
    """Every training of every method."""
    head = [Column("Method", False), *map(Column, ("Seed", "Validation top-1", "Test top-1"))]
    head += [Column("Time")]
    rows = []
    for method in methods(view):
        for run in listed(method.get("runs")):
            seed, took = number(dig(run, "seed")), number(dig(run, "seconds"))
            validation, test = number(dig(run, "validation")), number(dig(run, "test"))
            rows.append(
                [
                    Cell(text.plain(method.get("method"), 80)),
                    Cell(text.anything(seed), seed),
                    Cell(text.percent(validation, count(dig(run, "n_validation"))), validation),
                    Cell(text.percent(test, count(dig(run, "n_test"))), test),
                    Cell(text.seconds(took), took),
                ]
            )
    return table("method-runs", "Every training of the comparison.", head, rows)


def gains_figure(view: RunView) -> Figure | None:
    """Each method's gain with its interval, and a dot for each seed; None without any gain."""
    gained = [m for m in methods(view) if number(dig(m, "gain", "value")) is not None]
    if not gained:
        return None
    import plotly.graph_objects as go

    figure = go.Figure()
    names = _names(gained)
    dots = [
        (100 * value, row)
        for row, method in enumerate(gained)
        for each in listed(dig(method, "gain", "per_seed"))
        if (value := number(each)) is not None
    ]
    figure.add_trace(_means(names, gained))
    if len(dots) > len(gained):
        figure.add_trace(_dots(names, dots))
    figure.update_xaxes(title="Gain over the student alone,<br>points of test top-1", zeroline=True)
    figure.update_yaxes(range=[len(names) - 0.4, -0.8], showgrid=False, showticklabels=False)
    _name_rows(figure, names)
    figure.add_vline(x=0, line={"color": "#7f7f7f", "width": 1.5, "dash": "dash"})
    return drawn(
        figure,
        "gains",
        "Gain of each method over the student alone",
        f"Gain over the student alone of {', '.join(names)}; the numbers are in the table of "
        "methods.",
        "To the right is better; a bar is the 95% interval, and one that crosses the dashed line "
        "shows no gain.",
        height=150 + ROW * len(gained),
        left=8,
    )


def _name_rows(figure: Any, names: Sequence[str]) -> None:
    """Above each row, as a narrow picture has no room beside it."""
    for row, name in enumerate(names):
        figure.add_annotation(
            text=shown(name),
            x=0,
            xref="paper",
            xanchor="left",
            y=row - 0.22,
            yanchor="bottom",
            showarrow=False,
        )


def _names(found: Sequence[Method]) -> list[str]:
    """Short and different."""
    cut = [text.plain(method.get("method"), LONGEST) for method in found]
    return [
        f"{name} ({index + 1})" if cut.count(name) > 1 else name for index, name in enumerate(cut)
    ]


def _means(names: Sequence[str], found: Sequence[Method]) -> Any:
    import plotly.graph_objects as go

    gains = [
        [number(dig(method, "gain", key)) for key in ("value", "lo", "hi")] for method in found
    ]
    values = [100 * (value or 0.0) for value, _, _ in gains]
    up = [0.0 if hi is None else 100 * (hi - (value or 0.0)) for value, _, hi in gains]
    down = [0.0 if lo is None else 100 * ((value or 0.0) - lo) for value, lo, _ in gains]
    bars = {"type": "data", "symmetric": False, "array": up, "arrayminus": down}
    return go.Scatter(
        x=values,
        y=list(range(len(names))),
        mode="markers",
        name="gain",
        marker={"symbol": "diamond", "color": GAIN, "size": 12},
        error_x={**bars, "color": GAIN, "thickness": 2},
        hoverinfo="text",
        hovertext=[
            f"<b>{shown(name)}</b><br>{text.difference(value, [lo, hi])} points"
            for name, (value, lo, hi) in zip(names, gains, strict=True)
        ],
    )


def _dots(names: Sequence[str], dots: Sequence[tuple[float, int]]) -> Any:
    import plotly.graph_objects as go

    return go.Scatter(
        x=[x for x, _ in dots],
        y=[row for _, row in dots],
        mode="markers",
        name="each seed",
        marker={"symbol": "circle-open", "color": SEED, "size": 9, "line": {"width": 2}},
        hoverinfo="text",
        hovertext=[
            f"{shown(names[row])}, one seed: {text.points(x / 100)} points" for x, row in dots
        ],
    )
