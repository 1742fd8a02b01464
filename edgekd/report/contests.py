"""What ``--precision auto`` tried, how fast each was on the device, and why one was kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekd.report import text
from edgekd.report.exports import change_cell, export_name
from edgekd.report.table import Cell, Column, Table, table
from edgekd.report.tables import ratio_cell
from edgekd.report.view import RunView, dig, number

MEASURE = "fp32"
"""What the others are timed against."""


@dataclass(frozen=True)
class Contest:
    """The candidates of one export, and what was concluded, in sentences."""

    table: Table
    said: tuple[str, ...]


def contests(view: RunView) -> list[Contest]:
    """One for each export that ``auto`` decided."""
    found = []
    for index, artifact in enumerate(view.exports):
        auto = artifact.export.get("auto")
        tried = _table(auto, export_name(view, artifact), f"auto-{index + 1}")
        if tried:
            found.append(Contest(tried, tuple(_said(auto))))
    return found


def choices(view: RunView) -> list[str]:
    """What ``auto`` took for each export, and out of what."""
    found = []
    for artifact in view.exports:
        auto = artifact.export.get("auto")
        chosen = dig(auto, "chosen")
        if isinstance(chosen, str) and chosen:
            tried = [text.anything(dig(entry, "precision")) for entry in _candidates(auto)]
            out_of = f" out of {', '.join(tried)}" if tried else ""
            who = export_name(view, artifact)
            found.append(f"{who}: auto chose {text.plain(chosen)}{out_of}.")
    return found


def _candidates(auto: Any) -> list[Any]:
    listed = dig(auto, "candidates")
    return listed if isinstance(listed, list) else []


def _table(auto: Any, who: str, name: str) -> Table | None:
    head = [Column("Precision", False), Column("File"), Column("Time over fp32 [95%]")]
    head += [Column("Top-1, points [95%]"), Column("Same answers"), Column("Outcome", False)]
    rows = [_candidate(auto, entry) for entry in _candidates(auto)]
    noise = ratio_cell(dig(auto, "null"))
    if rows and noise.text != text.NONE:
        blank = Cell(text.NONE)
        null = Cell("null pair", note=f"{MEASURE} against itself")
        rows.append([null, blank, noise, blank, blank, Cell("the noise of a ratio")])
    return table(name, f"What auto tried for {who}, timed in turn on the device.", head, rows)


def _candidate(auto: Any, entry: Any) -> list[Cell]:
    precision, verdict = dig(entry, "precision"), dig(entry, "verdict")
    size, agreement = number(dig(entry, "bytes")), number(dig(verdict, "top1_agreement"))
    ratio = ratio_cell(dig(entry, "ratio"))
    if ratio.text == text.NONE and precision == MEASURE and dig(auto, "null"):
        ratio = Cell("1", 1.0)
    return [
        Cell(text.anything(precision)),
        Cell(text.scaled(size, "B"), size),
        ratio,
        change_cell(verdict),
        Cell(text.percent(agreement), agreement),
        _outcome(auto, entry),
    ]


def _outcome(auto: Any, entry: Any) -> Cell:
    """What became of it, and what its timing dares to claim."""
    if dig(entry, "refused"):
        return Cell("refused", note="see below")
    chosen = dig(entry, "precision") == dig(auto, "chosen")
    said = text.plain(dig(entry, "said") or "").replace("/model.onnx", "")
    return Cell("chosen" if chosen else "not chosen", note=said.replace("/model.plan", ""))


def _said(auto: Any) -> list[str]:
    """Why each one that is out is out, and what was concluded."""
    refused = [(dig(e, "precision"), dig(e, "refused")) for e in _candidates(auto)]
    found = [f"{text.anything(who)}: {text.anything(why)}" for who, why in refused if why]
    reasons = dig(auto, "reasons")
    listed = reasons if isinstance(reasons, list) else []
    return found + [text.anything(each) for each in listed if each]
