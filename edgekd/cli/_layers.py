"""Where a model spends its time, by the runtime's own profiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from edgekd.cli._tables import Grid, print_line

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
    table = Grid("layer", "type", "time", "share")
    for layer in slowest:
        table.add_row(
            _short(str(layer["name"])),
            str(layer["type"]),
            f"{layer['ms']:.4g} ms",
            "-" if layer["pct"] is None else f"{layer['pct']:.1f} %",
        )
    table.print(console)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"...{name[3 - LONGEST :]}"
