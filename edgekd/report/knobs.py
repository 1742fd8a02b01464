"""What was tried beside the timing: threads and spinning, and what an inference costs in energy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgekd.report import text
from edgekd.report.models import model_cell, model_name
from edgekd.report.places import anchor, by_clock, clock, clock_name, clock_words, sentence
from edgekd.report.table import Cell, Column, Table, table
from edgekd.report.view import RunView, count, dig, number

Record = Mapping[str, Any]


def sweep_tables(view: RunView) -> list[Table]:
    """Threads and spinning of each model: the best for latency, and the best per CPU-second."""
    head = [Column("Threads", False), Column("Spinning", False)]
    head += [*map(Column, ("Median", "p95", "CPU time", "Runs")), Column("Verdict", False)]
    found = []
    for index, record in enumerate(view.records):
        swept = record.get("sweep")
        listed = dig(swept, "rows")
        tried = listed if isinstance(listed, list) else []
        rows = [_tried(swept, place, row) for place, row in enumerate(tried)]
        caption = (
            f"Threads and spinning of {model_name(view, record)}; {clock_name(clock(record))}, "
            "CPU time a run."
        )
        name = f"sweep-{index + 1}"
        found.append(table(name, caption, [*head, Column("Best", False)], rows))
    return [each for each in found if each]


def _tried(swept: Any, index: int, row: Any) -> list[Cell]:
    threads, n = number(dig(row, "threads")), number(dig(row, "n"))
    times = [number(dig(row, key)) for key in ("median", "p95", "cpu_ms")]
    best = [
        words
        for key, words in (("best_latency", "for latency"), ("best_cpu", "per CPU-second"))
        if count(dig(swept, key)) == index
    ]
    return [
        Cell(text.anything(threads), threads),
        Cell(text.anything(dig(row, "spinning"))),
        *(Cell(text.milliseconds(value), value) for value in times),
        Cell(text.anything(n), n),
        Cell(text.anything(dig(row, "state"))),
        Cell(" and ".join(best) or text.NONE),
    ]


def energy_tables(view: RunView) -> list[Table]:
    """Joules of an inference above the idle board, by clock; or that there was no meter."""
    asked = [r for r in view.records if isinstance(r.get("energy"), Mapping) or _asked(r)]
    found = []
    for index, (name, records) in enumerate(by_clock(asked)):
        head = [Column("Energy", False), Column("An inference"), Column("Scope", False)]
        head += [Column("Meter", False), *map(Column, ("Read", "Idle", "Busy", "Over"))]
        rows = [_energy(view, record) for record in records]
        caption = f"Energy of an inference, idle power subtracted. {sentence(clock_words(name))}."
        found.append(table(anchor("energy", index), caption, head, rows))
    return [each for each in found if each]


def _asked(record: Record) -> bool:
    return dig(record, "evidence", "asked", "energy") is True


def _energy(view: RunView, record: Record) -> list[Cell]:
    found = record.get("energy")
    joules, rate = number(dig(found, "j_per_inference")), number(dig(found, "rate_hz"))
    took, n = number(dig(found, "seconds")), number(dig(found, "n"))
    without = Cell("n/a", note=_why_not(record))
    return [
        model_cell(view, record),
        without if joules is None else Cell(_joules(joules), joules),
        Cell(text.anything(dig(found, "scope"))),
        Cell(text.anything(dig(found, "meter"))),
        Cell(text.NONE if rate is None else f"{text.significant(rate)} Hz", rate),
        _watts(number(dig(found, "idle_w"))),
        _watts(number(dig(found, "busy_w"))),
        Cell(text.seconds(took), took, "" if n is None else f"{n:,.0f} runs"),
    ]


def _why_not(record: Record) -> str:
    """The verdict's own reason, which names what was looked for."""
    reasons = dig(record, "verdict", "reasons")
    listed = [text.plain(each) for each in reasons] if isinstance(reasons, list) else []
    about = [each for each in listed if re.search(r"\bmeter|\benergy", each)]
    return about[0] if about else "no meter"


def _joules(value: float) -> str:
    if 0 < abs(value) < 0.1:
        return f"{text.significant(1000 * value)} mJ"
    return f"{text.significant(value)} J"


def _watts(value: float | None) -> Cell:
    return Cell(text.NONE if value is None else f"{text.significant(value)} W", value)
