"""Where an exported file's error begins, as a person reads it; it stays readable on 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from edgekd.cli._tables import Grid, print_line

__all__ = ["print_explanation"]

NAMED = 28  # columns are left for a node's name; its end tells nodes apart
NOTHING_DB = -200.0  # not a number, or infinite


def print_explanation(explanation: Mapping[str, Any]) -> None:
    """Print the stages, the nodes that lose most, and the sentence.

    Args:
        explanation: ``Explanation.to_dict()`` of :mod:`edgekd.export`, or what a manifest keeps.
    """
    console = Console()
    if explanation["stages"]:
        table = Grid("stage", "signal to noise", "enough is", "")
        for stage in explanation["stages"]:
            verdict = "" if stage["snr_db"] is None else "good" if stage["passed"] else "BAD"
            least = f"{stage['least_db']:.0f} dB" if stage["least_db"] > NOTHING_DB else ""
            table.add_row(stage["name"], _db(stage["snr_db"]), least, verdict)
        table.print(console)
    if explanation["worst"]:
        table = Grid("node that loses most", "operator", "before", "after", "lost")
        for spot in explanation["worst"]:
            lost = f"{spot['added_db']:.0f} dB" if spot["snr_db"] > NOTHING_DB else "all"
            levels = (_db(spot["before_db"]), _db(spot["snr_db"]), lost)
            table.add_row(_end(spot["node"]), _end(spot["op"], 18), *levels)
        table.print(console)
    for spot in explanation["worst"]:
        if spot["reason"] and spot["reason"] not in explanation["sentence"]:
            print_line(console, f"{spot['op']} {spot['node']}: {spot['reason']}.")
    print_line(console, explanation["sentence"])


def _db(level: float | None) -> str:
    if level is None:
        return "-"
    return f"{level:.0f} dB" if level > NOTHING_DB else "nothing right"


def _end(name: str, most: int = NAMED) -> str:
    return name if len(name) <= most else f"...{name[3 - most :]}"
