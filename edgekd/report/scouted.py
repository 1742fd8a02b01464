"""What a scout found before any training: candidates, how fast they are, and which may fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.report import clauses, text
from edgekd.report.places import LOCAL, hardware
from edgekd.report.results import latencies
from edgekd.report.table import Cell, Column, Table, lines, table
from edgekd.report.tables import latency_cell
from edgekd.report.view import RunView, count, dig, leaves, listed, number

FITS = {"fits": "✓", "tight": "≈", "over": "✗", "unknown": "?"}
"""Whether a candidate is within the budget's costs, best first, and its mark."""
FEW = 16
"""Candidates of which a table needs no folding."""
BASES = {
    "published": "somebody published",
    "scaled": "scaled down from what was published at a larger size",
    "fitted": "read off a line through what was published of others",
}
"""Where a prior is from, as a person says it."""

Candidate = Mapping[str, Any]


def candidates(view: RunView) -> list[Candidate]:
    """The best first, as the scout ordered them."""
    found = listed(view.scout.get("candidates"))
    return [entry for entry in found if isinstance(entry, Mapping)]


def fit_of(candidate: Candidate) -> str:
    """One of :data:`FITS`."""
    fits = candidate.get("fits")
    return fits if isinstance(fits, str) and fits in FITS else "unknown"


def called(candidate: Candidate) -> str:
    """``resnet20 at 32 px, int8``."""
    size, precision = count(candidate.get("size")), text.plain(candidate.get("precision") or "", 20)
    name = text.plain(candidate.get("name") or candidate.get("key") or "candidate", 60)
    at = f" at {size} px" if size else ""
    return f"{name}{at}" + (f", {precision}" if precision not in ("", "fp32") else "")


def scout_sentences(view: RunView) -> list[str]:
    """How many were timed, how many may fit, and how noisy the device was."""
    found = candidates(view)
    if not found:
        return []
    failed = sum(1 for entry in found if entry.get("failed"))
    device, budget = device_of(view), text.plain(view.scout.get("budget") or "", 120)
    many = f"{len(found)} candidate{'s' * (len(found) != 1)}"
    said = f"{many} with random weights on {device or 'the device'}"
    said += f", {failed} of which could not be measured" if failed else ""
    words = [f"{said}, before any training."]
    if budget:
        margin = number(view.scout.get("margin"))
        spare = f" with {100 * margin:.3g}% to spare" if margin else ""
        counts = {
            fits: sum(fit_of(c) == fits for c in found if not c.get("failed")) for fits in FITS
        }
        words.append(
            f"Against {budget}: {counts['fits']} fit{'s' * (counts['fits'] == 1)}{spare}, "
            f"{counts['tight']} tight, {counts['over']} over, {counts['unknown']} undecided."
        )
    return [*words, *_noise(view), *_priors(found)]


def bases(found: list[Candidate]) -> list[str]:
    """Where the priors of candidates are from, those of :data:`BASES` first."""
    said = {
        text.plain(dig(candidate, "prior", "basis") or "", 20)
        for candidate in found
        if number(dig(candidate, "prior", "value")) is not None
    }
    return [basis for basis in BASES if basis in said] + sorted(said - set(BASES))


def _priors(found: list[Candidate]) -> list[str]:
    """What a prior is, where any candidate has one."""
    known = [BASES.get(basis, basis or "nobody says from where") for basis in bases(found)]
    if not known:
        return []
    start, end = ", ".join(known[:-1]), known[-1]
    said = f"{start} or {end}" if start else end
    return [f"A prior is an accuracy {said}: it orders candidates and promises nothing."]


def device_of(view: RunView) -> str:
    """The device that was scouted; this machine by its hardware, where that is known."""
    name = str(view.scout.get("device") or "")
    known = hardware({"device": view.scout.get("facts")}) if name == LOCAL else ""
    return text.plain(known or name, 60)


def _noise(view: RunView) -> list[str]:
    name, spread = dig(view.scout, "anchor", "name"), number(dig(view.scout, "anchor", "spread"))
    if not name or spread is None:
        return []
    return [
        f"{text.plain(name, 60)} was timed in every job: its medians lay up to "
        f"{text.percent(spread)} from their middle, which is the noise between jobs."
    ]


def scout_tables(view: RunView) -> list[Table]:
    """The candidates to look at: all where they are few, else the front and what may fit."""
    found = candidates(view)
    if len(found) <= FEW:
        return [made] if (made := _table("scout-table", found, "Candidates, best first.")) else []
    chosen = [c for c in found if c.get("pareto") is True or fit_of(c) == "fits"][:FEW]
    told = "The best of those that fit, and of those that nothing beats in prior and in median."
    made = _table("scout-table", chosen or found[:FEW], told)
    return [made] if made else []


def more_tables(view: RunView) -> list[Table]:
    """All candidates where they are many, and what each round did."""
    found = candidates(view)
    told = f"All {len(found)} candidates, best first, and why some were dropped."
    every = _table("scout-all", found, told) if len(found) > FEW else None
    return [each for each in (every, _rounds(view), _facts(view)) if each]


def _table(name: str, found: list[Candidate], caption: str) -> Table | None:
    head = [Column("Candidate", False), *map(Column, ("Prior", "Median [95%]", "p95"))]
    head += [*map(Column, ("Peak RAM", "File", "Parameters", "MACs", "Runs"))]
    head += [Column("Budget", False)]
    return table(name, caption, head, [_row(candidate) for candidate in found])


def _row(candidate: Candidate) -> list[Cell]:
    prior = number(dig(candidate, "prior", "value"))
    basis = text.plain(dig(candidate, "prior", "basis") or "", 20)
    times = {} if candidate.get("failed") else latencies(candidate)
    sizes = [number(candidate.get(key)) for key in ("peak_bytes", "size_bytes")]
    counts = [number(candidate.get(key)) for key in ("parameters", "macs", "n")]
    front = "on the front" if candidate.get("pareto") is True else ""
    return [
        Cell(called(candidate), note=front),
        Cell(text.percent(prior), prior, basis if prior is not None else ""),
        latency_cell(times.get("median"), interval=True),
        latency_cell(times.get("p95")),
        *(Cell(text.scaled(size, "B"), size) for size in sizes),
        *(Cell(text.scaled(value), value) for value in counts[:2]),
        Cell(text.anything(counts[2]), counts[2]),
        _fit(candidate),
    ]


def _fit(candidate: Candidate) -> Cell:
    if candidate.get("failed"):
        return Cell("failed", note=text.plain(candidate["failed"]))
    fits = fit_of(candidate)
    over = [
        f"{clauses.clause_of(ruling)}: {clauses.found_in(ruling)}"
        for ruling in clauses.rulings(candidate.get("rulings"))
        if ruling.get("state") != "holds"
    ]
    dropped = text.plain(candidate.get("dropped") or "")
    return Cell(f"{FITS[fits]} {fits}", note=lines(dropped, "" if dropped else "; ".join(over)))


def _rounds(view: RunView) -> Table | None:
    head = [Column("Round"), *map(Column, ("Candidates", "Kept", "Time"))]
    rows = []
    for entry in listed(view.scout.get("rounds")):
        keys = ("round", "candidates", "kept")
        numbers = [number(dig(entry, key)) for key in keys]
        took = number(dig(entry, "seconds"))
        cells = [Cell(text.anything(value), value) for value in numbers]
        rows.append([*cells, Cell(text.seconds(took), took)])
    return table("scout-rounds", "Rounds of the scout; each keeps the better half.", head, rows)


def _facts(view: RunView) -> Table | None:
    facts = leaves({"facts": view.scout.get("facts"), "runtime": view.scout.get("runtime")})
    rows = [
        [Cell(text.plain(name.partition(".")[2] or name, 60)), Cell(text.anything(value))]
        for name, value in facts
    ]
    head = [Column("Fact", False), Column("Found", False)]
    return table("scout-facts", "The device that was scouted.", head, rows)
