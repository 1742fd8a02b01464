"""Several devices at once: models down, devices across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from edgekd.cli._tables import Grid

COLUMNS = 3
"""Devices side by side: more would not be readable on 80 columns."""


def print_matrix(
    console: Console, records: Sequence[Mapping[str, Any]], names: Mapping[str, str]
) -> None:
    """A cell is the median, its interval, the 95th percentile, and a verdict unless it is stable.

    Args:
        console: where to.
        records: measurements and failures.
        names: what a model is called, by its sha256.
    """
    cells = {
        (record["artifact"]["sha256"], record["device"]["profile"]): _cell(record)
        for record in records
        if "timing" in record
    }
    devices = devices_of(records)
    for first in range(0, len(devices), COLUMNS):
        part = devices[first : first + COLUMNS]
        table = Grid("median [95 %]", *part)
        for sha, name in names.items():
            table.add_row(name, *(cells.get((sha, each), "failed") for each in part))
        table.print(console)


def devices_of(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of all devices, those that failed among them, in the order they were asked in."""
    found = [
        record["failure"]["device"] if "failure" in record else record["device"]["profile"]
        for record in records
        if "failure" in record or "timing" in record
    ]
    return list(dict.fromkeys(found))


def _cell(record: Mapping[str, Any]) -> str:
    median, p95 = record["timing"]["median"], record["timing"]["p95"]
    lines = [f"{median['value']:.4g} ms"]
    if median["lo"] is not None and median["hi"] is not None:
        lines.append(f"[{median['lo']:.4g}, {median['hi']:.4g}]")
    lines.append("p95 n/a" if p95["value"] is None else f"p95 {p95['value']:.4g} ms")
    state = record["verdict"]["state"]
    return "\n".join(lines + [state] * (state != "stable"))
