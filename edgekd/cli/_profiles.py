"""What a measurement says, for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from edgekd.cli._tables import make_table, print_line


def print_profiles(records: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> None:
    """One column a model, one row a figure; then the comparisons in words.

    Args:
        records: those of a measurement, and then its comparisons.
        names: what a model is called, by its sha256.
    """
    console = Console()
    measured = [record for record in records if "timing" in record]
    for first in range(0, len(measured), COLUMNS):
        part = measured[first : first + COLUMNS]
        table = make_table("", *(names[record["artifact"]["sha256"]] for record in part))
        for name, read in ROWS:
            table.add_row(name, *(escape(read(record)) for record in part))
        console.print(table)
    for record in measured:
        print_line(console, f"{names[record['artifact']['sha256']]} is {_verdict(record)}.")
    for record in records:
        if "comparison" in record:
            found = record["comparison"]
            print_line(console, f"Against {found['a']}: {found['sentence']}.")


COLUMNS = 3
"""Models side by side: more would not be readable on 80 columns."""


def _estimate(found: Mapping[str, Any]) -> str:
    """A value with its interval, or why there is none."""
    if found.get("value") is None:
        return str(found["method"])
    if found.get("lo") is None or found.get("hi") is None:
        return f"{found['value']:.4g} ms"
    return f"{found['value']:.4g} ms\n[{found['lo']:.4g}, {found['hi']:.4g}]"


def _accuracy(record: Mapping[str, Any]) -> str:
    found = record["accuracy"]
    if not found or found["value"] is None:
        return "not measured"
    low, high = found["interval"]
    return f"{found['value']:.2%} of {found['n']:,}\n[{100 * low:.2f}, {100 * high:.2f}]"


def _verdict(record: Mapping[str, Any]) -> str:
    reasons = "; ".join(record["verdict"]["reasons"])
    return f"{record['verdict']['state']}{': ' if reasons else ''}{reasons}"


def _timing(name: str) -> Any:
    return lambda record: _estimate(record["timing"][name])


ROWS: tuple[tuple[str, Any], ...] = (
    ("file size", lambda r: f"{r['artifact']['size_bytes'] / 1e6:.2f} MB"),
    ("median [95 %]", _timing("median")),
    ("p90", _timing("p90")),
    ("p95", _timing("p95")),
    ("p99", _timing("p99")),
    ("CPU time", lambda r: f"{r['timing']['cpu_ms']:.4g} ms a run"),
    ("load", lambda r: f"{r['timing']['load_ms']} ms"),
    ("first run", lambda r: f"{r['timing']['first_ms']} ms"),
    ("runs", lambda r: f"{r['timing']['n']:,}"),
    ("undisturbed", lambda r: f"{r['timing']['kept_share']:.0%}"),
    ("peak memory", lambda r: f"{r['memory']['peak_rss_bytes'] / 1e6:.0f} MB"),
    ("top-1 [95 %]", _accuracy),
    ("precision", lambda r: f"{r['artifact']['precision_found']}"),
    ("opset", lambda r: f"{r['artifact']['opset']}"),
    ("runtime", lambda r: f"{r['runtime']['name']} {r['runtime']['version']}"),
    ("threads", lambda r: f"{r['policy']['threads']}"),
    ("batch", lambda r: f"{r['policy']['batch_size']}"),
)
