"""What a person reads at the end of a comparison; it stays readable on 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from edgekd.cli._tables import Grid, print_line

NONE = "-"


def print_comparison(found: Mapping[str, Any]) -> None:
    """A row a method, what the columns mean, the winner and the report."""
    console, several = Console(), len(found["seeds"]) > 1
    columns = ("validation", "test", "gain, points", "cost")
    table = Grid("method", *columns, fold=True)
    for method in found["methods"]:
        table.add_row(
            method["method"],
            _spread(method["validation"], several),
            _spread(method["test"], several),
            _gain(method),
            _cost(method["cost"]["over_alone"]),
        )
    table.print(console)
    for line in _legend(found):
        print_line(console, line)
    for method in found["methods"]:
        if method["failed"]:
            print_line(console, f"{method['method']} failed: {method['failed']}")
    print_line(console, found["winner"]["sentence"])
    print_line(console, f"Report: {found['report']['html']}")


def _legend(found: Mapping[str, Any]) -> list[str]:
    seeds, teacher = len(found["seeds"]), found["teacher_ms_per_step"]
    basis = next((m["gain"]["basis"] for m in found["methods"] if m["gain"]), None)
    lines = [f"Top-1: mean of {seeds} seeds, lowest to highest."] if seeds > 1 else []
    if basis:
        lines.append(f"Gain: over the student alone, with its 95 % interval; {basis}.")
    if found["order"]:
        lines.append(found["order"]["sentence"])
    if teacher is not None:
        hits = found["teacher_hits"]
        kept = f", {hits:.0%} of its answers being there already" if hits else ""
        lines.append(
            "Cost: a step and its look at the teacher, in steps of the student alone that were "
            f"timed beside it ({NONE}: none were); here the teacher's {teacher:,.3g} ms were spent "
            f"once for all{kept}."
        )
    return lines


def _spread(split: Mapping[str, Any], several: bool) -> str:
    if split["mean"] is None:
        return NONE
    low, high = 100 * split["min"], 100 * split["max"]
    return f"{split['mean']:.1%}" + f"\n{low:.1f} to {high:.1f}" * several


def _gain(method: Mapping[str, Any]) -> str:
    gain = method["gain"]
    if gain is None:
        return NONE if method["failed"] or not method["alone"] else "0"
    low, high = 100 * gain["lo"], 100 * gain["hi"]
    return f"{100 * gain['value']:+.1f}\n[{low:+.1f}, {high:+.1f}]"


def _cost(over: float | None) -> str:
    return NONE if over is None else f"{over:.2f}x"
