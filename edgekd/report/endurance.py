"""How a latency holds up over minutes: heat slows boards, and not all by as much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.report import text
from edgekd.report.models import model_cell, model_name
from edgekd.report.places import anchor, by_clock, clock, clock_name, clock_words, sentence
from edgekd.report.table import Cell, Column, Table, lines, table
from edgekd.report.view import RunView, count, dig, number

Record = Mapping[str, Any]
HELD_NOW = 0xFFFF
"""A Raspberry Pi's low bits are what holds it back now, the high ones what did since its boot."""


def minutes(record: Record) -> list[Mapping[str, Any]]:
    """The rows of a sustained measurement that have a time and a median."""
    rows = record.get("sustained")
    return [
        row
        for row in (rows if isinstance(rows, list) else [])
        if number(dig(row, "minute")) is not None and number(dig(row, "median")) is not None
    ]


def sustained_records(view: RunView) -> list[Record]:
    return [record for record in view.records if minutes(record)]


def held_back(row: Mapping[str, Any]) -> bool:
    """Whether the board said in that minute that it was held back."""
    return bool((count(row.get("throttle_bits")) or 0) & HELD_NOW)


def conclusion(record: Record) -> str:
    """The verdict as a sentence, and what became of the median."""
    state, reasons = (dig(record, "verdict", key) for key in ("state", "reasons"))
    listed = [text.plain(reason) for reason in reasons] if isinstance(reasons, list) else []
    said = sentence(text.plain(state or "no verdict", 40))
    said += f": {'; '.join(listed)}." if listed else "."
    rows = minutes(record)
    first, last = number(rows[0]["median"]), number(rows[-1]["median"])
    if len(rows) < 2 or not first or last is None:
        return said
    ends = f"{text.milliseconds(first)} at first, {text.milliseconds(last)} at the end"
    return f"{said} Median {ends} ({_change(first, last)})."


def _change(first: float, last: float) -> str:
    return text.signed(f"{100 * (last / first - 1):+.1f}%")


def sustained_tables(view: RunView) -> list[Table]:
    """One line for each sustained measurement, by clock: where it began and where it ended."""
    found = []
    for index, (name, records) in enumerate(by_clock(sustained_records(view))):
        head = [Column("Sustained", False), *map(Column, ("For", "First", "Last", "Change"))]
        head += [
            *map(Column, ("Worst p95", "Hottest", "Fastest core, least")),
            Column("Verdict", False),
        ]
        rows = [_summary(view, record) for record in records]
        caption = f"Latency under load without a pause. {sentence(clock_words(name))}."
        found.append(table(anchor("sustained-summary", index), caption, head, rows))
    return [each for each in found if each]


def _summary(view: RunView, record: Record) -> list[Cell]:
    rows = minutes(record)
    first, last = (number(rows[end]["median"]) or 0.0 for end in (0, -1))
    change = last / first - 1 if first and len(rows) > 1 else None  # one row is no change
    length = number(rows[-1]["minute"]) or 0.0
    worst, hottest = max(_known(rows, "p95"), default=None), _hottest(rows)
    held = sum(map(held_back, rows))
    reasons = dig(record, "verdict", "reasons")
    return [
        model_cell(view, record),
        Cell(text.seconds(60 * length), 60 * length),
        _ms(first),
        _ms(last),
        Cell(text.NONE if change is None else _change(first, last), change),
        _ms(worst),
        hottest,
        _ghz(min(_known(rows, "core_khz"), default=None)),
        Cell(
            text.anything(dig(record, "verdict", "state")),
            note=lines(
                text.anything(reasons) if reasons else "",
                f"held back in {held} of {len(rows)} rows" if held else "",
            ),
        ),
    ]


def _known(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [value for row in rows if (value := number(row.get(key))) is not None]


def _hottest(rows: Sequence[Mapping[str, Any]]) -> Cell:
    return _celsius(max(_known(rows, "temperature_c"), default=None))


def _celsius(value: float | None) -> Cell:
    return Cell(text.NONE if value is None else text.celsius(value), value)


def _ghz(khz: float | None) -> Cell:
    return Cell(text.NONE if khz is None else text.gigahertz(khz), khz)


def _ms(value: float | None) -> Cell:
    return Cell(text.milliseconds(value), value)


def minute_tables(view: RunView) -> list[Table]:
    """The numbers behind each curve, row by row."""
    head = [Column("Minute"), *map(Column, ("Median", "p95", "Runs", "CPU time"))]
    head += [*map(Column, ("Hottest", "Fastest core", "Load")), Column("Held back", False)]
    made = []
    for index, record in enumerate(sustained_records(view)):
        rows = [_minute(row) for row in minutes(record)]
        name = f"{model_name(view, record)}, {clock_name(clock(record))}"
        made.append(table(f"minutes-{index + 1}", f"Minutes of {name}.", head, rows))
    return [each for each in made if each]


def _minute(row: Mapping[str, Any]) -> list[Cell]:
    minute, n, load = (number(row.get(key)) for key in ("minute", "n", "load"))
    bits = count(row.get("throttle_bits"))
    return [
        Cell(text.NONE if minute is None else f"{minute:.4g}", minute),
        _ms(number(row.get("median"))),
        _ms(number(row.get("p95"))),
        Cell(text.anything(n), n),
        _ms(number(row.get("cpu_ms"))),
        _celsius(number(row.get("temperature_c"))),
        _ghz(number(row.get("core_khz"))),
        Cell(text.anything(load), load),
        Cell(text.NONE if bits is None else "yes" if held_back(row) else "no"),
    ]
