"""What a person reads at the end of a verb; it stays readable on 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgekd.artifact import Artifact
from edgekd.intervals import wilson

if TYPE_CHECKING:
    from edgekd.report import Result


def print_networks(artifacts: Sequence[Artifact]) -> None:
    """One row a network: what it is, how large, how right on the test images."""
    table = make_table("", "network", "parameters", "MACs", "test top-1 [95 %]", "images")
    for artifact in artifacts:
        model, test = artifact.manifest["model"], artifact.manifest["metrics"]["test"]
        found = wilson(round(test["top1"] * test["n"]), test["n"])
        table.add_row(
            artifact.manifest["role"],
            escape(model["name"]),
            f"{model['parameters']:,}",
            f"{model['macs'] / 1e6:,.1f} M",
            f"{found.value:.1%} [{100 * found.lo:.1f}, {100 * found.hi:.1f}]",
            f"{test['n']:,}",
        )
    Console().print(table)


def print_run(out: Path, summary: Mapping[str, Any]) -> None:
    """The end of ``edgekd run``: who is how large, how right and how fast, and the report."""
    from edgekd.report import collect, text

    console = Console()
    results = collect(out).results
    table = make_table("", *(f"{line.role or 'model'}\n{line.network}" for line in results))
    rows: dict[str, Callable[[Result], str]] = {
        "parameters": lambda line: text.scaled(line.parameters),
        "file size": lambda line: text.scaled(line.size_bytes, "B"),
        "MACs an image": lambda line: text.scaled(line.macs),
        "top-1\n  [95 %]": _accuracy,
        "median latency\n  [95 %]": _latency,
        "p95 latency": lambda line: text.latency(line.latency.get("p95")),
        "peak memory": lambda line: text.scaled(line.peak_rss_bytes, "B"),
    }
    for name, read in rows.items():
        table.add_row(name, *(escape(read(line)) for line in results))
    console.print(table)
    for place in sorted({f"{line.device}: {line.runtime}" for line in results if line.latency}):
        print_line(console, f"Latency on {place}.")
    if summary["gain"] is not None:
        print_line(console, gain_sentence(summary["gain"]))
    print_line(console, f"Report: {summary['report']['html']}")


def _accuracy(line: Result) -> str:
    from edgekd.report import text

    found = line.accuracy
    if found is None:
        return text.NONE
    return f"{text.percent(found.value, found.n)}\n{text.percent_interval(found)}"


def _latency(line: Result) -> str:
    from edgekd.report import text

    return text.latency(line.median, interval=True).replace(" [", "\n[")


def gain_sentence(gain: Mapping[str, Any]) -> str:
    """What distilling gained over the same student alone, whatever it is."""
    low, high = (100 * end for end in gain["interval"])
    verdict = "distilling helped" if low > 0 else "distilling hurt" if high < 0 else "no difference"
    epochs = f"{gain['baseline_epochs']} epoch{'s' * (gain['baseline_epochs'] != 1)}"
    cost = ", as much computing" if gain["basis"] == "cost" else ""
    return (
        f"Gain of distilling over the student alone ({epochs}{cost}): "
        f"{100 * gain['delta']:+.1f} points of top-1, 95 % interval {low:+.1f} to {high:+.1f} "
        f"over {gain['n']:,} paired images: {verdict}."
    )


def print_line(console: Console, text: str) -> None:
    """A sentence; a long one is left to the terminal to break, so that a path can be copied."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def make_table(first: str, *columns: str) -> Table:
    """A table whose first column is words and whose others are figures."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(escape(first))
    for column in columns:
        table.add_column(escape(column), justify="right")
    return table
