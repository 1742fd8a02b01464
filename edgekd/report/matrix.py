"""Models beside devices: how fast each is where, and which device gave no answer, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.report import text
from edgekd.report.models import model_cell
from edgekd.report.places import (
    anchor,
    by_clock,
    clock_words,
    failed_place,
    hardware,
    place,
    places,
    runtime_name,
    sentence,
)
from edgekd.report.results import latencies, record_hash
from edgekd.report.table import Cell, Column, Table, lines, table
from edgekd.report.view import RunView, count, dig, number

Record = Mapping[str, Any]
Key = tuple[str, int, int]
"""Model, batch size, and which of several measurements of that on one device."""


def matrices(view: RunView) -> list[Table]:
    """A matrix for each clock where there are several devices, or one that failed."""
    if len(places(view)) < 2 and not view.failures:
        return []
    found = []
    for index, (clock, records) in enumerate(by_clock(view.records) or [("", [])]):
        failed = _failed(view) if index == 0 else {}  # what they were to do has no clock
        names = [name for name in places(view) if name in map(place, records) or name in failed]
        head = [Column("Model", False), *(_column(records, name, failed) for name in names)]
        caption = "Median latency [95%] of each model on each device"
        if records:
            caption += f". {sentence(clock_words(clock))}"
        rows = _rows(view, records, names, failed)
        found.append(table(anchor("matrix", index), f"{caption}.", head, rows))
    return [each for each in found if each]


def _failed(view: RunView) -> dict[str, str]:
    """Why each device that failed did."""
    reasons: dict[str, list[str]] = {}
    for entry in view.failures:
        name = failed_place(entry)
        said = text.plain(dig(entry, "failure", "message") or "no reason was given")
        reasons.setdefault(name, []).append(said.removeprefix(f"{text.plain(name)}: "))
    return {name: " ".join(dict.fromkeys(said)) for name, said in reasons.items()}


def _column(records: Sequence[Record], name: str, failed: Mapping[str, str]) -> Column:
    first = next((record for record in records if place(record) == name), {})
    return Column(
        text.plain(name, 60) or text.NONE,
        numeric=name not in failed,
        note=text.plain(hardware(first), 60),
    )


def _rows(
    view: RunView, records: Sequence[Record], names: Sequence[str], failed: Mapping[str, str]
) -> list[list[Cell]]:
    placed = _placed(records)
    keys = list(dict.fromkeys(key for key, _ in placed))
    runtimes = {_runner(record) for record in records}
    told: set[str] = set()
    rows = []
    for key in keys:
        row = [_heading(view, key, next(r for (k, _), r in placed.items() if k == key))]
        for name in names:
            record = placed.get((key, name))
            if record is None:
                row.append(_missing(name, failed, told))
            else:
                row.append(_cell(record, len(runtimes) > 1))
        rows.append(row)
    if keys:
        return rows
    return [
        [Cell(model), *(_missing(name, failed, told) for name in names)]
        for model in _asked(view) or ["model"]
    ]


def _placed(records: Sequence[Record]) -> dict[tuple[Key, str], Record]:
    """Each record at its row and column; nothing that was measured twice is lost."""
    placed: dict[tuple[Key, str], Record] = {}
    for record in records:
        batch, again = count(dig(record, "policy", "batch_size")) or 1, 0
        while ((record_hash(record), batch, again), place(record)) in placed:
            again += 1
        placed[(record_hash(record), batch, again), place(record)] = record
    return placed


def _heading(view: RunView, key: Key, record: Record) -> Cell:
    _, batch, again = key
    notes = (f"batch {batch}" if batch > 1 else "", f"measurement {again + 1}" if again else "")
    return model_cell(view, record, *notes, device=False)


def _cell(record: Record, several: bool) -> Cell:
    """Median, p95, what it costs in accuracy, and whether the time can be trusted."""
    found = latencies(record.get("timing"))
    median, p95 = found.get("median") or found.get("p50"), found.get("p95")
    said = "" if p95 is None else f"p95 {text.latency(p95)}"
    state = text.plain(dig(record, "verdict", "state") or "", 40)
    notes = lines(said, _accuracy(record.get("accuracy")), state, _runner(record) * several)
    return Cell(text.latency(median, interval=True), median.value if median else None, notes)


def _accuracy(found: Any) -> str:
    """The change against the float network where it is known, else what is right."""
    delta, value = number(dig(found, "delta")), number(dig(found, "value"))
    n = count(dig(found, "n"))
    if delta is not None:
        return f"top-1 {text.difference(delta, dig(found, 'delta_interval'), n)}"
    return "" if value is None else f"top-1 {text.percent(value, n)}"


def _runner(record: Record) -> str:
    runtime = record.get("runtime")
    named = {key: dig(runtime, key) for key in ("name", "provider")}
    return text.plain(runtime_name(named), 60)


def _missing(name: str, failed: Mapping[str, str], told: set[str]) -> Cell:
    """What a device that failed says in its first cell; one that was not asked says nothing."""
    if name not in failed:
        return Cell(text.NONE)
    note = "" if name in told else failed[name]
    told.add(name)
    return Cell("failed", note=note)


def _asked(view: RunView) -> list[str]:
    """The models that failed everywhere, by the names they were given."""
    listed = [dig(entry, "failure", "models") for entry in view.failures]
    named = [name for names in listed if isinstance(names, list) for name in names]
    return list(dict.fromkeys(text.plain(name, 80) for name in named))
