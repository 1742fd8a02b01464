"""What a person reads at the end of a verb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgekd.artifact import Artifact
from edgekd.intervals import wilson


def print_networks(artifacts: Sequence[Artifact]) -> None:
    """One row a network: what it is, how large, how right on the test images."""
    table = _table("", "network", "parameters", "MACs", "test top-1 [95 %]", "images")
    for artifact in artifacts:
        model, test = artifact.manifest["model"], artifact.manifest["metrics"]["test"]
        found = wilson(round(test["top1"] * test["n"]), test["n"])
        table.add_row(
            artifact.manifest["role"],
            model["name"],
            f"{model['parameters']:,}",
            f"{model['macs'] / 1e6:,.1f} M",
            f"{found.value:.1%} [{found.lo:.1%}, {found.hi:.1%}]",
            f"{test['n']:,}",
        )
    Console().print(table)


def print_parity(artifact: Artifact, out: Path) -> None:
    """What an export proved."""
    export = artifact.manifest["export"]
    table = _table("exported", "value")
    for key, value in export.items():
        if isinstance(value, str | int | float | bool):
            table.add_row(key.replace("_", " "), escape(str(value)))
    for key, value in export["parity"].items():
        if isinstance(value, str | int | float | bool):
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            table.add_row(f"parity: {key.replace('_', ' ')}", escape(shown))
    console = Console()
    console.print(table)
    console.print(f"Next: edgekd profile {out}", highlight=False, soft_wrap=True)


def print_run(out: Path, summary: Mapping[str, Any]) -> None:
    """The end of ``edgekd run``: who is how large, how right and how fast, and the report."""
    from edgekd.report import collect
    from edgekd.report.tables import results_table

    console = Console()
    found = results_table(collect(out))
    if found is not None:
        table = _table(*(column.title for column in found.columns))
        for row in found.rows:
            table.add_row(*(escape(cell.text) for cell in row))
        console.print(table)
    if summary["gain"] is not None:
        console.print(gain_sentence(summary["gain"]), highlight=False, soft_wrap=True)
    console.print(f"Report: {summary['report']['html']}", highlight=False, soft_wrap=True)


def gain_sentence(gain: Mapping[str, Any]) -> str:
    """What distilling gained over the same student alone, whatever it is."""
    low, high = (100 * end for end in gain["interval"])
    verdict = "distilling helped" if low > 0 else "distilling hurt" if high < 0 else "no difference"
    return (
        f"Gain of distilling over the student alone ({gain['baseline_epochs']} epochs): "
        f"{100 * gain['delta']:+.1f} points of top-1, 95 % interval {low:+.1f} to {high:+.1f} "
        f"over {gain['n']:,} paired images: {verdict}."
    )


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if number < 1 else "right")
    return table
