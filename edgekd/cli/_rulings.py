"""The end of ``edgekd run --budget``: what was found of each clause, and what to do now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from edgekd.budget import shown
from edgekd.cli._tables import Grid, gain_sentence, print_line


def print_mission(out: Path, summary: Mapping[str, Any]) -> None:
    """The rulings, the sentence, the way out or the artifact, and the report."""
    console, found = Console(), summary["budget"]
    if found["rulings"]:
        table = Grid("clause", "found", "95 %", "verdict")
        for ruling in found["rulings"]:
            table.add_row(*_cells(ruling))
        table.print(console)
    print_line(console, f"{found['sentence'][0].upper()}{found['sentence'][1:]}.")
    if found.get("test"):
        print_line(console, _accuracy(found["test"]))
    for number, way in enumerate(found["way_out"], 1):
        print_line(console, f"  Way out {number}: {way}.")
    if summary["gain"] is not None:
        print_line(console, gain_sentence(summary["gain"]))
    print_line(console, f"Report: {summary['report']['html']}")
    if found["artifact"]:
        place = out / found["artifact"]
        print_line(console, f"Artifact: {place}")
        print_line(console, f"Next: edgekd deploy {place}")


def _accuracy(test: Mapping[str, Any]) -> str:
    """How right the student is, whether the budget bounds it or not."""
    (low, high), (least, most) = test["interval"], test["delta_interval"]
    return (
        f"On {test['n']:,} test images: top-1 {test['top1']:.1%} [{low:.1%}, {high:.1%}], teacher "
        f"{test['teacher']:.1%}, difference {100 * test['delta']:+.1f} points "
        f"[{100 * least:+.1f}, {100 * most:+.1f}]."
    )


def _cells(ruling: Mapping[str, Any]) -> tuple[str, str, str, str]:
    metric, value, low, high = (ruling[name] for name in ("metric", "value", "lo", "hi"))
    if value is None:
        return ruling["clause"], "n/a", ruling["why"] or "", ruling["state"]
    interval = "" if low is None or high is None else f"[{_plain(metric, low, high)}]"
    return ruling["clause"], shown(metric, value), interval, ruling["state"]


def _plain(metric: str, low: float, high: float) -> str:
    return f"{shown(metric, low)}, {shown(metric, high)}"
