"""Where a model spends its time, by the runtime's own profiler, and on which provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.report import text
from edgekd.report.models import model_name
from edgekd.report.table import Cell, Column, Table, table
from edgekd.report.view import RunView, dig, number

SHOWN = 12
"""Layers in a table, the slowest first; ``report.json`` has all."""
SHARES = ("node_share", "time_share")
"""What of a run each provider has; there may be several, though none is fallen back to unasked."""
HEAD = (Column("Layer", False), Column("Type", False), Column("Time"), Column("Share"))


def layer_tables(view: RunView) -> list[Table]:
    """The slowest layers of each model that was profiled."""
    found = []
    for index, record in enumerate(view.records):
        layers = record.get("layers")
        listed = layers if isinstance(layers, list) else []
        timed = [layer for layer in listed if _ms(layer) is not None]
        timed.sort(key=lambda layer: -(_ms(layer) or 0.0))
        caption = f"Slowest layers of {model_name(view, record)}, {len(timed)} in all, timed apart"
        nodes, times = (provider_shares(record, key) for key in SHARES)
        caption += f". Nodes: {nodes}" if nodes else ""
        caption += f". Time: {times}." if times else "."
        rows = [_layer(layer) for layer in timed[:SHOWN]]
        found.append(table(f"layers-{index + 1}", caption, HEAD, rows))
    return [each for each in found if each]


def provider_shares(record: Mapping[str, Any], key: str) -> str:
    """``98.0% CPUExecutionProvider, 2.0% XnnpackExecutionProvider``: of the nodes, or the time."""
    found = dig(record, "runtime", key)
    parts = found.items() if isinstance(found, Mapping) else ()
    known = [(text.plain(name, 60), number(share)) for name, share in parts]
    known.sort(key=lambda pair: -(pair[1] or 0.0))
    return ", ".join(f"{text.percent(share)} {name}" for name, share in known if share is not None)


def _ms(layer: Any) -> float | None:
    return number(dig(layer, "ms"))


def _layer(layer: Any) -> list[Cell]:
    took, share = _ms(layer), number(dig(layer, "pct"))
    return [
        Cell(text.plain(dig(layer, "name") or "unnamed", 80)),
        Cell(text.anything(dig(layer, "type"))),
        Cell(text.milliseconds(took), took),
        Cell(text.NONE if share is None else f"{share:.1f}%", share),
    ]
