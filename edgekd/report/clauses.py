"""What a budget bounds and what was found of it, as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.budget import LATENCY, METRICS
from edgekd.report import text
from edgekd.report.table import Cell, Column, Table, table
from edgekd.report.view import dig, listed, number

MARKS = {"holds": "✓", "fails": "✗", "open": "?", "unknown": "?", "refused": "✗"}
"""Told apart by shape, and always beside the word itself."""
WORDS = {
    "holds": "holds",
    "fails": "fails",
    "open": "open",
    "unknown": "not known",
    "refused": "refused",
}
UNITS = {metric: found.unit for metric, found in METRICS.items()}

Ruling = Mapping[str, Any]


def rulings(found: Any) -> list[Ruling]:
    """The rulings in a list of a file; what is none of them is left out."""
    entries = [entry for entry in listed(found) if isinstance(entry, Mapping)]
    return [entry for entry in entries if str(entry.get("metric")) in METRICS]


def state_of(entry: Any) -> str:
    """The state of a ruling or an attempt; ``unknown`` where it has none of those there are."""
    state = dig(entry, "state")
    return state if isinstance(state, str) and state in WORDS else "unknown"


def clause_of(ruling: Ruling) -> str:
    """``p95 ≤ 30ms``."""
    said = text.plain(ruling.get("clause") or ruling.get("metric"), 40)
    return said.replace("<=", " ≤ ").replace(">=", " ≥ ")


def amount(metric: str, value: float, lo: float | None = None, hi: float | None = None) -> str:
    """A value in its metric's unit, with its interval where there is one.

    Args:
        metric: one of a budget's.
        value: in the metric's own unit; a share for those in percent.
        lo: end of the interval.
        hi: the other end.
    """
    unit = UNITS.get(metric, "")
    if unit == "%":
        ends = "" if lo is None or hi is None else f" [{100 * lo:.1f}, {100 * hi:.1f}]"
        word = " points" if metric == "top1_drop" else "%"
        return text.signed(f"{100 * value:.1f}{word}{ends}")
    if unit == "J" and 0 < abs(value) < 0.1:
        return text.within(1e3 * value, lo and 1e3 * lo, hi and 1e3 * hi, "mJ")
    return text.within(value, lo, hi, unit)


def found_in(ruling: Ruling) -> str:
    """``34.1 ms [33.8, 34.6]``, or why it is not known."""
    value, lo, hi = (number(ruling.get(key)) for key in ("value", "lo", "hi"))
    if value is None:
        return text.plain(ruling.get("why") or "not measured", 80)
    return amount(str(ruling.get("metric")), value, lo, hi)


def found_cell(ruling: Ruling | None, marked: bool = True) -> Cell:
    """What was found, with the verdict beneath."""
    if ruling is None:
        return Cell(text.NONE)
    state = state_of(ruling)
    note = f"{MARKS[state]} {WORDS[state]}" if marked else ""
    return Cell(found_in(ruling), number(ruling.get("value")), note)


def rulings_table(name: str, caption: str, found: list[Ruling]) -> Table | None:
    """Each clause, what was found of it, and whether it holds."""
    head = [Column("Clause", False), Column("Found [95%]"), Column("Verdict", False)]
    head += [Column("Bound")]
    return table(name, caption, head, [_row(ruling) for ruling in found])


def _row(ruling: Ruling) -> list[Cell]:
    metric, bound = str(ruling.get("metric")), number(ruling.get("bound"))
    state, known = state_of(ruling), METRICS.get(metric)
    why = ruling.get("why") if number(ruling.get("value")) is not None else None
    return [
        Cell(clause_of(ruling), note=known.title.replace("^6", "⁶") if known else ""),
        found_cell(ruling, marked=False),
        Cell(f"{MARKS[state]} {WORDS[state]}", note=text.plain(why or "")),
        Cell(text.NONE if bound is None else amount(metric, bound), bound),
    ]


def axis_metric(found: list[Ruling], usual: str = "p50") -> str:
    """The metric of a picture's horizontal axis: the budget's latency, else its first cost."""
    costs = [str(ruling["metric"]) for ruling in found if UNITS.get(str(ruling["metric"])) != "%"]
    times = [metric for metric in costs if metric in LATENCY]
    return (times or costs or [usual])[0]


def of_metric(found: list[Ruling], metric: str) -> Ruling | None:
    return next((ruling for ruling in found if ruling.get("metric") == metric), None)
