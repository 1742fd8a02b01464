"""Pairs of models that were measured in turns on one device, by one clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.report import text
from edgekd.report.places import (
    anchor,
    clock,
    clock_name,
    clock_rank,
    hardware,
    place,
    places,
    sentence,
)
from edgekd.report.table import Cell, Column, Table, lines, table
from edgekd.report.tables import ratio_cell
from edgekd.report.view import RunView, dig

Record = Mapping[str, Any]


def comparison_place(view: RunView, entry: Record) -> str:
    """The device of a comparison: it says so, or there was but one."""
    named = dig(entry, "comparison", "device")
    if isinstance(named, str) and named:
        return named
    found = {place(record) for record in _beside(view, entry)} or set(places(view))
    return found.pop() if len(found) == 1 else ""


def comparison_clock(view: RunView, entry: Record) -> str:
    """The clock of the records that were made with a comparison; empty where they differ."""
    name = comparison_place(view, entry)
    beside = [r for r in _beside(view, entry) if not name or place(r) == name]
    found = {clock(record) for record in beside or view.records}
    return found.pop() if len(found) == 1 else ""


def _beside(view: RunView, entry: Record) -> list[Record]:
    """The records of the same call, which has one time."""
    return [r for r in view.records if r.get("timestamp") == entry.get("timestamp")]


def comparisons_tables(view: RunView) -> list[Table]:
    """Pairs that were measured in turns, which alone tells small differences from chance."""
    groups: dict[str, list[Record]] = {}
    for entry in view.comparisons:
        groups.setdefault(comparison_clock(view, entry), []).append(entry)
    several = len(places(view)) > 1
    head = [Column("Pair", False), *[Column("Device", False)] * several]
    head += [Column("Time ratio [95%]"), Column("Null pair"), Column("Verdict", False)]
    found = []
    for index, name in enumerate(sorted(groups, key=clock_rank)):
        rows = [_row(view, entry, several) for entry in groups[name]]
        caption = "Two networks in turns, beside a null pair: the same network against itself."
        caption += f" {sentence(clock_name(name))}." if name else ""
        found.append(table(anchor("comparisons", index), caption, head, rows))
    return [each for each in found if each]


def _row(view: RunView, entry: Record, several: bool) -> list[Cell]:
    found = entry.get("comparison")
    pair = f"{_short(dig(found, 'b'))} against {_short(dig(found, 'a'))}"
    state = dig(found, "state")
    reasons = dig(found, "reasons")
    said = [text.anything(each) for each in (state, reasons) if each]
    note = "" if state in (None, "stable") else lines(*said)
    device = comparison_place(view, entry)
    return [
        Cell(pair),
        *[_device(view, device)] * several,
        ratio_cell(dig(found, "ratio")),
        ratio_cell(dig(found, "null")),
        Cell(_short(dig(found, "sentence")), note=note),
    ]


def _device(view: RunView, name: str) -> Cell:
    record = next((r for r in view.records if place(r) == name), {})
    return Cell(text.plain(name, 60) or text.NONE, note=text.plain(hardware(record), 60))


def _short(name: Any) -> str:
    """A model by its artifact's folder: the file in it is called ``model.onnx`` every time."""
    return text.anything(name).replace("/model.onnx", "").replace("/model.plan", "")
