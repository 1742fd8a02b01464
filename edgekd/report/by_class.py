"""Which classes the student lost and won against its teacher and its baseline."""

from __future__ import annotations

from typing import Any

from edgekd.report import text
from edgekd.report.classes import MOST, confusions
from edgekd.report.figures import Figure, drawn, shown
from edgekd.report.table import Cell, Column, Table, table
from edgekd.report.tables import named
from edgekd.report.view import Answered, ClassChange, RunView, dig, listed

CHANGED = 16
"""Classes in the table where they are too many to show all."""
PAIRS = 10
"""Confusions in the table."""
LOW, HIGH = "rgba(0,114,178,{})", "rgba(213,94,0,{})"
LABEL = 14
"""Characters of a class's name beside a picture."""


def class_table(view: RunView) -> Table | None:
    """Accuracy by class, and its change with the student, paired image by image."""
    if not view.changes:
        return None
    roles = list(dict.fromkeys(change.against for change in view.changes))
    by = {(change.against, change.index): change for change in view.changes}
    indices = _chosen(view.changes, roles[0])
    head = [Column("Class", False), Column("Images"), *(Column(role.title()) for role in roles)]
    head += [Column("Student"), *(Column(f"Against the {role} [95%]") for role in roles)]
    rows = [_row([by[role, index] for role in roles]) for index in indices]
    return table("classes", _caption(view, len(indices)), head, rows)


def _chosen(changes: tuple[ClassChange, ...], role: str) -> list[int]:
    """All classes in their order; of many those that changed the most, the worst first."""
    mine = [change for change in changes if change.against == role]
    if len(mine) <= MOST:
        return [change.index for change in mine]
    most = sorted(mine, key=lambda change: (-abs(change.delta), change.index))[:CHANGED]
    return [change.index for change in sorted(most, key=lambda change: change.delta)]


def _row(changes: list[ClassChange]) -> list[Cell]:
    first = changes[0]
    return [
        Cell(text.plain(first.label, 60)),
        Cell(f"{first.n:,}", first.n),
        *(Cell(text.percent(change.before, change.n), change.before) for change in changes),
        Cell(text.percent(first.after, first.n), first.after),
        *(_change(change) for change in changes),
    ]


def _change(change: ClassChange) -> Cell:
    words = text.difference(change.delta, [change.lo, change.hi], change.n)
    return Cell(words, change.delta, "" if change.lo <= 0 <= change.hi else "differs")


def _caption(view: RunView, shown_: int) -> str:
    total = len({change.index for change in view.changes})
    which = "" if shown_ == total else f"The {shown_} of {total} classes that changed the most. "
    return (
        f"{which}Test accuracy of the networks before their export, by class, and its change in "
        "points, paired image by image. Of so many intervals one in twenty misses by chance."
    )


def confusion_table(view: RunView) -> Table | None:
    """The student's most frequent mistakes, and how often the others make them."""
    student = next((a for a in view.answered if a.role == "student" and a.counts), None)
    if student is None:
        return None
    labels = labels_of(view)
    others = [a for a in view.answered if a is not student and a.counts]
    head = [Column("Is", False), Column("Taken for", False), Column("Student")]
    head += [Column(other.role.title()) for other in others]
    rows = [
        [
            Cell(text.plain(labels[true], 60)),
            Cell(text.plain(labels[said], 60)),
            Cell(f"{times:,}", times),
            *(Cell(f"{o.counts[true][said]:,}", o.counts[true][said]) for o in others),
        ]
        for true, said, times in confusions(student)[:PAIRS]
    ]
    caption = "The student's most frequent mistakes, in images of the test split."
    return table("confusions", caption, head, rows)


def labels_of(view: RunView) -> list[str]:
    """Class names, as the student's manifest has them."""
    paths = [found.path for found in view.answered if found.role == "student"]
    manifest = next((a.manifest for a in view.artifacts if a.path in paths), {})
    return [str(label) for label in listed(dig(manifest, "labels"))]


def class_figures(view: RunView) -> list[Figure]:
    """The student's answers by true class, and how they differ from the teacher's."""
    student = next((a for a in view.answered if a.role == "student" and a.counts), None)
    if student is None or not confusions(student):
        return []
    names = _short(labels_of(view))
    figures = [_confusion(student, names)]
    for before in view.answered:
        if before is not student and before.counts and before.counts != student.counts:
            figures.append(_difference(before, student, names))
    return figures


def _short(labels: list[str]) -> list[str]:
    """Names that fit beside a picture, no two of them alike."""
    cut = [text.plain(label, LABEL) for label in labels]
    return [
        f"{text.plain(name, LABEL - 4)} {index}" if cut.count(name) > 1 or not name else name
        for index, name in enumerate(cut)
    ]


def _confusion(found: Answered, names: list[str]) -> Figure:
    """Mistakes as shares of a class's images; what is right would outshine them."""
    shares = [
        [None if true == said or not sum(row) else 100 * n / sum(row) for said, n in enumerate(row)]
        for true, row in enumerate(found.counts)
    ]
    said = [
        [
            f"{shown(names[true])} taken for {shown(names[answer])}: {n:,} of {sum(row):,}"
            if true != answer
            else f"{shown(names[true])} right: {n:,} of {sum(row):,}"
            for answer, n in enumerate(row)
        ]
        for true, row in enumerate(found.counts)
    ]
    scale = [[0.0, HIGH.format(0)], [1.0, HIGH.format(1)]]
    title = f"Mistakes of the {named(found.role, found.name)}"
    most = max(share or 0.0 for row in shares for share in row)
    hint = f"The strongest is {text.percent(most / 100)} of a class; what is right is left blank."
    return _heat("confusion", title, (shares, said, names), scale, (0.0, most), hint)


def _difference(before: Answered, after: Answered, names: list[str]) -> Figure:
    """How many more images of a class get an answer than before."""
    change = [
        [now - was for was, now in zip(*rows, strict=True)]
        for rows in zip(before.counts, after.counts, strict=True)
    ]
    said = [
        [
            f"{shown(names[true])} answered {shown(names[answer])}: {text.signed(f'{n:+,}')} images"
            for answer, n in enumerate(row)
        ]
        for true, row in enumerate(change)
    ]
    most = max(abs(n) for row in change for n in row)
    worse = [[-n if t == s else n for s, n in enumerate(row)] for t, row in enumerate(change)]
    scale = [[0.0, LOW.format(1)], [0.5, LOW.format(0)], [0.5, HIGH.format(0)], [1, HIGH.format(1)]]
    title = f"Student against the {before.role}"
    hint = (
        "Blue is better: more right on the diagonal, fewer mistakes elsewhere; orange is worse. "
        f"The strongest is {most:,} image{'s' * (most != 1)}."
    )
    name = f"confusion-{before.role}"
    return _heat(name, title, (worse, said, names), scale, (-most, most), hint)


def _heat(
    name: str,
    title: str,
    content: tuple[list[list[Any]], list[list[str]], list[str]],
    scale: list[list[Any]],
    ends: tuple[float, float],
    hint: str,
) -> Figure:
    import plotly.graph_objects as go

    values, said, names = content
    labels = list(map(shown, names))
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=labels,
            y=labels,
            colorscale=scale,
            zmin=ends[0],
            zmax=ends[1],
            xgap=1,
            ygap=1,
            hoverinfo="text",
            hovertext=said,
            showscale=False,
        )
    )
    figure.update_xaxes(title="Answer", type="category", showgrid=False, tickangle=-60)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    figure.update_yaxes(title={"text": "True class", "standoff": 8})
    told = f"{title}, by true class and answer; the tables below have the numbers."
    return drawn(figure, name, title, told, hint, height=max(400, 150 + 18 * len(names)))


TABLES = (class_table, confusion_table)
