"""What a person reads at the end of a verb; it stays readable on 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgekd.artifact import Artifact
from edgekd.intervals import wilson
from edgekd.plain import plain

if TYPE_CHECKING:
    from edgekd.report import Result


def print_networks(artifacts: Sequence[Artifact]) -> None:
    """One row a network: what it is, how large, how right on the test images."""
    table = Grid("", "network", "parameters", "MACs", "test top-1 [95 %]", "images")
    for artifact in artifacts:
        model, test = artifact.manifest["model"], artifact.manifest["metrics"]["test"]
        found = wilson(round(test["top1"] * test["n"]), test["n"])
        table.add_row(
            artifact.manifest["role"],
            model["name"],
            f"{model['parameters']:,}",
            f"{model['macs'] / 1e6:,.1f} M",
            f"{found.value:.1%} [{100 * found.lo:.1f}, {100 * found.hi:.1f}]",
            f"{test['n']:,}",
        )
    table.print(Console())


def print_run(out: Path, summary: Mapping[str, Any]) -> None:
    """The end of ``edgekd run``: who is how large, how right and how fast, and the report."""
    from edgekd.report import collect, text

    console = Console()
    results = collect(out).results
    table = Grid("", *(f"{line.role or 'model'}\n{line.network}" for line in results))
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
        table.add_row(name, *(read(line) for line in results))
    table.print(console)
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
    console.print(Text(plain(text)), soft_wrap=True)


class Grid:
    """A table for a person; it stays readable on 80 columns.

    Args:
        columns: their titles.
        headed: whether the titles are shown.
        fold: whether a long cell of the first column is broken rather than cut.
    """

    def __init__(self, *columns: str, headed: bool = True, fold: bool = False) -> None:
        self._table = Table(box=box.SIMPLE_HEAD, show_header=headed)
        for index, title in enumerate(columns):
            words = index == 0 or not headed
            self._table.add_column(
                Text(plain(title)),
                justify="left" if words else "right",
                overflow="fold" if fold and index == 0 else "ellipsis",
            )

    def add_row(self, *cells: str) -> None:
        """A row; a cell may have several lines."""
        self._table.add_row(*(Text(plain(cell)) for cell in cells))

    def print(self, console: Console) -> None:
        """Show it."""
        console.print(self._table)
