"""The tables of numbers: results, training, time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekd.report import text
from edgekd.report.curves import per_epoch
from edgekd.report.places import anchor, clock_rank, clock_words, sentence
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


def results_tables(view: RunView) -> list[Table]:
    """Who is how big, how right and how fast; a table for each clock that was used."""
    groups: dict[str, list[Result]] = {}
    for line in view.results:
        if line.latency:
            groups.setdefault(line.clock, []).append(line)
    clocks = sorted(groups, key=clock_rank) or [""]
    still = [x for x in view.results if not x.latency and not x.called]
    found = []
    for index, clock in enumerate(clocks):
        mine = {id(line) for line in groups.get(clock, [])} | {id(x) for x in still * (not index)}
        lines = [line for line in view.results if id(line) in mine]
        found.append(_results_table(lines, clock, anchor("results", index)))
    return [each for each in found if each]


def _results_table(results: Sequence[Result], clock: str, name: str) -> Table | None:
    timed = [line for line in results if line.latency]
    places = len({line.place or line.device for line in timed}) > 1
    runtimes = len({line.runtime for line in timed}) > 1
    head = [
        Column("Network", False),
        *map(Column, ("Parameters", "File", "MACs", "Top-1 [95%]")),
        *map(Column, ("Median latency [95%]", "p95", "p99", "p99.9", "Peak RAM")),
    ]
    rows = [_result_row(line, places, runtimes) for line in results]
    return table(name, _results_caption(results, clock), head, rows)


def _result_row(line: Result, places: bool, runtimes: bool) -> list[Cell]:
    words = (
        line.called,
        line.precision,
        (line.place or line.device) * places,
        line.runtime * runtimes,
    )
    note = " · ".join(word for word in words if word)
    return [
        Cell(named(line.role, line.network), note=text.plain(note), role=line.role),
        Cell(text.scaled(line.parameters), line.parameters),
        Cell(text.scaled(line.size_bytes, "B"), line.size_bytes),
        Cell(text.scaled(line.macs), line.macs),
        accuracy_cell(line.accuracy),
        latency_cell(line.median, interval=True, note=line.state),
        latency_cell(line.latency.get("p95")),
        latency_cell(line.latency.get("p99")),
        _rarest(line.latency.get("p99.9")),
        Cell(text.scaled(line.peak_rss_bytes, "B"), line.peak_rss_bytes),
    ]


def _rarest(found: Percentile | None) -> Cell:
    """Hardly anybody has the runs that it needs, and says so for each model."""
    return latency_cell(found if found and found.value is not None else None)


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


def _results_caption(results: Sequence[Result], clock: str) -> str:
    parts = ["Size, accuracy and latency of each network."]
    if any(line.accuracy for line in results):
        parts.append("Top-1 with its 95% Wilson interval over n images.")
    places = sorted({_place(line) for line in results if line.latency})
    if len(places) == 1 and places[0]:
        parts.append(f"Latency on {text.plain(places[0])}.")
    if any(line.latency for line in results):
        parts.append(f"{sentence(clock_words(clock))}.")
    return " ".join(parts)


def accuracy_cell(found: Estimate | None) -> Cell:
    """An accuracy with its interval, n and where it was found."""
    if found is None:
        return Cell(text.NONE)
    words = f"{text.percent(found.value, found.n)} {text.percent_interval(found)}".rstrip()
    images = f"n = {found.n:,}" if found.n else ""
    source = "on device" if found.source == "device" else found.source
    return Cell(words, found.value, ", ".join(w for w in (images, source) if w))


def latency_cell(found: Percentile | None, interval: bool = False, note: str = "") -> Cell:
    """A percentile, or why there is none."""
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
                Cell(
                    named(artifact.role, artifact.name),
                    note=text.plain(artifact.called),
                    role=artifact.role,
                ),
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
