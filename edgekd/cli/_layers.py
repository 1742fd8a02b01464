"""Where a model spends its time, by the runtime's own profiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from edgekd.cli._tables import make_table, print_line

SHOWN = 10
LONGEST = 40
"""Letters of a layer's name that are shown; its end tells it from others."""


def print_layers(console: Console, name: str, layers: Sequence[Mapping[str, Any]] | None) -> None:
    """The slowest ones.

    Args:
        console: where to.
        name: what the model is called.
        layers: of its record; nothing is printed where they were not timed.
    """
    if not layers:
        return
    slowest = sorted(layers, key=lambda layer: -layer["ms"])[:SHOWN]
    many = (
        f"the slowest {len(slowest)} of {len(layers)} layers" if len(layers) > SHOWN else "layers"
    )
    print_line(console, f"{name}, {many}, timed apart:")
    table = make_table("layer", "type", "time", "share")
    for layer in slowest:
        table.add_row(
            escape(_short(str(layer["name"]))),
            escape(str(layer["type"])),
            f"{layer['ms']:.4g} ms",
            "-" if layer["pct"] is None else f"{layer['pct']:.1f} %",
        )
    console.print(table)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"...{name[3 - LONGEST :]}"
