"""What a measurement says, for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_profiles(records: Sequence[Mapping[str, Any]]) -> None:
    """One column a model, one row a figure; then the comparisons in words."""
    console = Console()
    measured = [record for record in records if "timing" in record]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for number, record in enumerate(measured, 1):
        table.add_column(f"model {number}, {record['artifact']['size_bytes'] / 1e6:.2f} MB")
    for name, read in ROWS:
        table.add_row(name, *(escape(read(record)) for record in measured))
    console.print(table)
    for record in records:
        if "comparison" in record:
            console.print(f"  {record['comparison']['sentence']}", highlight=False, soft_wrap=True)


def _estimate(found: Mapping[str, Any]) -> str:
    """A value with its interval, or why there is none."""
    if found.get("value") is None:
        return f"n/a ({found.get('reason') or 'too few runs'})"
    if found.get("lo") is None or found.get("hi") is None:
        return f"{found['value']:.4g} ms"
    return f"{found['value']:.4g} ms [{found['lo']:.4g}, {found['hi']:.4g}]"


def _accuracy(record: Mapping[str, Any]) -> str:
    found = record["accuracy"]
    if not found or found["value"] is None:
        return "not measured"
    low, high = found["interval"]
    return f"{found['value']:.2%} [{low:.2%}, {high:.2%}], n = {found['n']}"


def _verdict(record: Mapping[str, Any]) -> str:
    reasons = "; ".join(record["verdict"]["reasons"])
    return f"{record['verdict']['state']}{': ' if reasons else ''}{reasons}"


def _timing(name: str) -> Any:
    return lambda record: _estimate(record["timing"][name])


ROWS: tuple[tuple[str, Any], ...] = (
    ("median", _timing("median")),
    ("p90", _timing("p90")),
    ("p95", _timing("p95")),
    ("p99", _timing("p99")),
    ("CPU time", lambda r: f"{r['timing']['cpu_ms']:.4g} ms a run"),
    ("load, first run", lambda r: f"{r['timing']['load_ms']} ms, {r['timing']['first_ms']} ms"),
    ("runs", lambda r: f"{r['timing']['n']}, {r['timing']['kept_share']:.0%} undisturbed"),
    ("peak memory", lambda r: f"{r['memory']['peak_rss_bytes'] / 1e6:.0f} MB"),
    ("top-1", _accuracy),
    ("precision", lambda r: f"{r['artifact']['precision_found']}, opset {r['artifact']['opset']}"),
    ("runtime", lambda r: f"{r['runtime']['name']} {r['runtime']['version']}"),
    ("threads", lambda r: f"{r['policy']['threads']}, batch {r['policy']['batch_size']}"),
    ("verdict", _verdict),
)
