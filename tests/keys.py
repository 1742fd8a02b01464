"""The keys of the files that edgekd writes and reads back, by schema version, as a snapshot.

A key that is new, or gone, fails a test until somebody has looked at the version: a new one that
readers may do without is added to ``golden_files/keys.json``; for anything else the version is
raised, with a reader and a golden file of the one before. A name that ends in ``?`` may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgekd.schema import Schema

KNOWN = Path(__file__).parent / "golden_files" / "keys.json"
OPEN = {  # tables whose keys are names of something, and those that have a schema of their own
    "manifest": (
        "export.asked",
        "export.exporter_versions",
        "export.fallbacks",
        "export.nodes",
        "export.types",
        "export.verdict",
        "export.weighted",
        "files",
        "metrics",
        "recipe",
        "versions",
    ),
    "proof": ("data", "files", "record"),
    "run": ("measured", "seconds"),
    "scout": ("asked", "facts"),
    "comparison": (),
    "outcome": ("asked.policy", "asked.recipe", "confirmed.record", "record"),
    "checkpoint": ("ema", "learner", "optimizer", "ranges", "scaler"),
}


def paths(value: Any, kind: str, prefix: str = "") -> Iterator[str]:
    """Dotted names of all keys in nested tables and lists; open tables are not entered."""
    if prefix in OPEN[kind]:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            name = f"{prefix}.{key}" if prefix else str(key)
            yield name
            yield from paths(inner, kind, name)
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, kind, f"{prefix}[]")


def check_keys(schema: Schema, *tables: Mapping[str, Any]) -> None:
    """Hold what was written against the snapshot of its version.

    Args:
        schema: of the files.
        tables: several of them: what is null in one may be a table in another, and what is null in
            all is not looked into.
    """
    listed = json.loads(KNOWN.read_text("utf-8"))[schema.kind][str(schema.version)]
    known = {name.removesuffix("?") for name in listed}
    found = {name for table in tables for name in paths(table, schema.kind)}
    entered = {_above(name) for name in found}
    gone = [name for name in sorted({*listed} - found) if _above(name) in entered]
    gone = [name for name in gone if not name.endswith("?")]
    advice = f"look at the version of the {schema.kind} in edgekd/schema.py, then at {KNOWN.name}"
    assert not found - known, f"new keys: {advice}: {json.dumps(sorted(found - known))}"
    assert not gone, f"keys are gone: {advice}: {json.dumps(gone)}"


def _above(name: str) -> str:
    """The table that a key is in."""
    return name.rpartition(".")[0]
