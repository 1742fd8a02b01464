"""What a scout found, for a person: a table that fits the terminal, and what was left out."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from edgekd.cli._tables import Grid, print_line

Row = Mapping[str, Any]
NARROW, WIDE = 72, 100
"""Columns of a terminal below which there is no table but a list, and from which all is shown."""
LISTED = 8
"""So many that were left out are named; more are counted."""
AXIS = {"p50": "median", "p95": "p95", "p99": "p99", "mean": "mean"}
MARK = "*"


def print_scout(
    found: Mapping[str, Any], out: Path | None, paths: Mapping[str, Path], data: str | None
) -> None:
    """The students that were left, the best first; then the others, the noise, and what is next.

    Args:
        found: what ``scout.json`` holds.
        out: its folder, if it was written.
        paths: of the report.
        data: as it was said, for the next command.
    """
    console = Console()
    rows = found["candidates"]
    shown = [row for row in rows if row["failed"] is None and not row["dropped"]]
    _print_table(console, shown, found["budget"])
    print_line(console, f"{MARK} no other promises as much and is as fast (the Pareto front).")
    _print_dropped(console, [row for row in rows if row["dropped"]], out)
    for row in rows:
        if row["failed"]:
            print_line(console, f"{row['key']} failed: {row['failed']}")
    runtime = found["runtime"]
    where = f"Measured on {found['device']} with {runtime['name']} {runtime['version']}"
    print_line(console, f"{where}. {_noise(found['anchor'])}")
    restless = sum(row["state"] not in ("stable", None) for row in shown)
    if restless:
        again = "ask again when the device is quiet, and they are timed once more"
        print_line(console, f"{restless} of {len(shown)} figures are noisy: {again}.")
    print_line(console, sentence(found))
    if out is not None:
        print_line(console, f"Report: {paths.get('html', out)}")
    print_line(console, f"Next: {_next(found, data)}")


def sentence(found: Mapping[str, Any]) -> str:
    """Who fits the budget, or who is nearest to it."""
    rows = [row for row in found["candidates"] if row["median"]["value"] is not None]
    best = rows[0]
    prior = _prior(best)
    named = f"{best['key']} ({prior} by its prior, {_ms(best['median'])} median)"
    costs = ", ".join(ruling["clause"] for ruling in best["rulings"])
    if not costs:
        return f"The highest prior: {named}."
    fitting = sum(row["fits"] == "fits" for row in rows)
    margin = f"{found['margin']:.0%} to spare"
    if fitting:
        many = "fits" if fitting == 1 else "fit"
        return (
            f"{fitting} of {len(rows)} {many} {costs} with {margin}; the most accurate "
            f"by its prior: {named}."
        )
    return f"None of {len(rows)} fits {costs} with {margin}; the nearest: {named}."


def _print_table(console: Console, rows: Sequence[Row], budget: str | None) -> None:
    axis = _axis(budget)
    if console.width < NARROW:
        for row in rows:
            fits = f", {row['fits']}" if budget is not None else ""
            figures = f"{_prior(row)}, {AXIS[axis]} {_plain(axis)(row)} ms{fits}"
            print_line(console, f"{_named(row)}\n  {figures}")
        return
    columns = _columns(console.width, axis, with_fit=budget is not None)
    table = Grid("student", *(title for title, _ in columns), fold=True)
    for row in rows:
        table.add_row(_named(row), *(read(row) for _, read in columns))
    table.print(console)


def _columns(width: int, axis: str, *, with_fit: bool) -> list[tuple[str, Callable[[Row], str]]]:
    """What a terminal of some width has room for."""
    other = "p95" if axis == "p50" else "p50"
    chosen = [
        ("prior", _prior),
        (f"{AXIS[axis]}, ms [95 %]", _estimate(axis)),
        (f"{AXIS[other]}\nms", _plain(other)),
        ("peak\nMB", _peak),
    ]
    if width >= WIDE:
        chosen += [
            ("file\nMB", lambda row: f"{row['size_bytes'] / 1e6:.2f}"),
            ("MACs\nM", lambda row: f"{row['macs'] / 1e6:,.1f}"),
            ("runs", lambda row: f"{row['n']:,}"),
        ]
    return chosen + [("budget", lambda row: str(row["fits"]))] * with_fit


def _peak(row: Row) -> str:
    return "n/a" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}"


def _named(row: Row) -> str:
    return f"{row['key']}{' ' + MARK if row['pareto'] else ''}"


def _axis(budget: str | None) -> str:
    from edgekd.budget import Budget
    from edgekd.scouting.ranking import axis_of

    return axis_of(None if budget is None else Budget.parse(budget))


def _figure(row: Row, metric: str) -> Mapping[str, Any]:
    if metric == "mean":
        low, high = row["mean_interval"] or (None, None)
        return {"value": row["mean"], "lo": low, "hi": high}
    found: Mapping[str, Any] = row["median" if metric == "p50" else metric]
    return found


def _plain(metric: str) -> Callable[[Row], str]:
    def read(row: Row) -> str:
        value = _figure(row, metric)["value"]
        return "n/a" if value is None else f"{value:.3g}"

    return read


def _estimate(metric: str) -> Callable[[Row], str]:
    def read(row: Row) -> str:
        found = _figure(row, metric)
        if found["value"] is None or found["lo"] is None or found["hi"] is None:
            return _plain(metric)(row)
        return f"{found['value']:.3g} [{found['lo']:.3g}, {found['hi']:.3g}]"

    return read


def _ms(found: Mapping[str, Any]) -> str:
    return f"{found['value']:.3g} ms"


def _prior(row: Row) -> str:
    """A share that only orders; one that nobody published is marked."""
    prior = row["prior"]
    if prior["value"] is None:
        return "none"
    return f"{'~' * (prior['basis'] != 'published')}{prior['value']:.1%}"


def _print_dropped(console: Console, rows: Sequence[Row], out: Path | None) -> None:
    if len(rows) <= LISTED:
        for row in rows:
            print_line(console, f"{row['key']} was dropped in {row['dropped']}.")
        return
    rounds = Counter(str(row["dropped"]).partition(":")[0] for row in rows)
    counted = ", ".join(f"{count} in {name}" for name, count in sorted(rounds.items()))
    where = "with --output or --json" if out is None else "in scout.json and in the report"
    print_line(console, f"Dropped: {counted}; why is told {where}.")


def _noise(anchor: Mapping[str, Any]) -> str:
    if anchor["spread"] is None:
        return "One job: nothing says how much the device differs from job to job."
    jobs = len(anchor["medians"])
    return (
        f"Noise: {anchor['name']}, timed in each of {jobs} jobs, was within "
        f"{anchor['spread']:.1%} of its median."
    )


def _next(found: Mapping[str, Any], data: str | None) -> str:
    words = ["edgekd", "run", "--teacher", "T", "--data", data or "D", "--device", found["device"]]
    words += ["--students", ",".join(found["space"])]
    if found["sizes"]:
        words += ["--sizes", ",".join(map(str, found["sizes"]))]
    words += ["--budget", found["budget"] or "p95<=30ms, top1_drop<=1%"]
    return shlex.join(words)
