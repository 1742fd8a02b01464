"""The tables of numbers: results, training, time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekd.report import text
from edgekd.report.curves import per_epoch
from edgekd.report.table import Cell, Column, Table, table
from edgekd.report.view import (
    Estimate,
    Percentile,
    Result,
    RunView,
    Training,
    count,
    dig,
    number,
)


def results_table(view: RunView) -> Table | None:
    """Who is how big, how right and how fast."""
    several = len({_place(line) for line in view.results if line.latency}) > 1
    head = [
        Column("Network", False),
        *map(Column, ("Parameters", "File", "MACs", "Top-1 [95%]")),
        *map(Column, ("Median latency [95%]", "p95", "p99", "Peak RAM")),
    ]
    rows = [_result_row(line, several) for line in view.results]
    return table("results", _results_caption(view.results), head, rows)


def _result_row(line: Result, several: bool) -> list[Cell]:
    note = " · ".join(word for word in (line.precision, _place(line) * several) if word)
    return [
        Cell(named(line.role, line.network), note=text.plain(note), role=line.role),
        Cell(text.scaled(line.parameters), line.parameters),
        Cell(text.scaled(line.size_bytes, "B"), line.size_bytes),
        Cell(text.scaled(line.macs), line.macs),
        _accuracy(line.accuracy),
        _latency(line.median, interval=True, note=line.state),
        _latency(line.latency.get("p95")),
        _latency(line.latency.get("p99")),
        Cell(text.scaled(line.peak_rss_bytes, "B"), line.peak_rss_bytes),
    ]


def named(role: str, name: str) -> str:
    """``student: resnet8``, or the name alone where there is no role."""
    return text.plain(f"{role}: {name}" if role else name, 80)


def ratio_cell(found: Any) -> Cell:
    """A ratio of two times with its interval."""
    value, lo, hi = (number(dig(found, key)) for key in ("value", "lo", "hi"))
    if value is None:
        return Cell(text.NONE)
    ends = "" if lo is None or hi is None else f" [{lo:.3f}, {hi:.3f}]"
    return Cell(f"{value:.3f}{ends}", value)


def _place(line: Result) -> str:
    return ", ".join(word for word in (line.device, line.runtime) if word)


def _results_caption(results: Sequence[Result]) -> str:
    parts = ["Size, accuracy and latency of each network."]
    if any(line.accuracy for line in results):
        parts.append("Top-1 with its 95% Wilson interval over n images.")
    places = sorted({_place(line) for line in results if line.latency})
    if len(places) == 1 and places[0]:
        parts.append(f"Latency on {text.plain(places[0])}.")
    return " ".join(parts)


def _accuracy(found: Estimate | None) -> Cell:
    if found is None:
        return Cell(text.NONE)
    words = f"{text.percent(found.value, found.n)} {text.percent_interval(found)}".rstrip()
    images = f"n = {found.n:,}" if found.n else ""
    source = "on device" if found.source == "device" else found.source
    return Cell(words, found.value, ", ".join(w for w in (images, source) if w))


def _latency(found: Percentile | None, interval: bool = False, note: str = "") -> Cell:
    if found is not None and found.value is None:
        return Cell("n/a", note=text.plain(found.reason))
    value = found.value if found else None
    return Cell(text.latency(found, interval), value, text.plain(note))


def costs_table(view: RunView) -> Table | None:
    """What each training took."""
    head = [
        Column("Training", False),
        *map(Column, ("Epochs", "Steps", "Time")),
        Column("Precision", False),
        Column("Images/s"),
    ]
    rows = []
    for artifact in view.artifacts:
        found = artifact.manifest.get("training")
        if artifact.kind != "network" or not found:
            continue
        epochs, steps = number(dig(found, "epochs")), number(dig(found, "steps"))
        took, rate = number(dig(found, "seconds")), number(dig(found, "images_per_s"))
        rows.append(
            [
                Cell(named(artifact.role, artifact.name), role=artifact.role),
                Cell(text.anything(epochs), epochs),
                Cell(text.anything(steps), steps),
                Cell(text.seconds(took), took),
                Cell(text.anything(dig(found, "precision"))),
                Cell(text.anything(rate), rate),
            ]
        )
    return table("costs", "What each training took.", head, rows)


def training_table(training: Training, name: str) -> Table | None:
    """The numbers behind a training's curves, epoch by epoch."""
    epochs = per_epoch(training)
    terms = sorted({term for _, losses, _ in epochs for term in losses})
    shares = sorted({k for _, _, found in epochs for k in found if k.startswith("top")})
    others = ["loss"] if any("loss" in found for _, _, found in epochs) else []
    head = [Column("Epoch")]
    head += [Column(f"{text.plain(term)} loss") for term in terms]
    head += [Column(f"validation {text.plain(key.replace('top', 'top-'))}") for key in shares]
    head += [Column(f"validation {key}") for key in others]
    rows = [
        [
            Cell(str(epoch), epoch),
            *(_figure(losses.get(term)) for term in terms),
            *(_share(found.get(key), count(found.get("n"))) for key in shares),
            *(_figure(found.get(key)) for key in others),
        ]
        for epoch, losses, found in epochs
    ]
    caption = f"Training of {text.plain(training.name)}: mean weighted losses and validation."
    return table(name, caption, head, rows)


def _figure(value: float | None) -> Cell:
    return Cell(text.NONE if value is None else text.significant(value), value)


def _share(value: float | None, n: int | None) -> Cell:
    return Cell(text.percent(value, n), value)


def time_table(view: RunView) -> Table | None:
    """How long each stage of the run took."""
    found = view.run.get("seconds")
    stages = found if isinstance(found, dict) else {}
    rows = [
        [Cell(text.plain(stage)), Cell(text.seconds(number(value)), number(value))]
        for stage, value in stages.items()
        if number(value) is not None
    ]
    if len(rows) > 1:
        total = sum(cell.value or 0.0 for _, cell in rows)
        rows.append([Cell("total"), Cell(text.seconds(total), total)])
    return table("time", "Time by stage.", [Column("Stage", False), Column("Time")], rows)
