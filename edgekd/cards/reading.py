"""What a card is made of: an artifact's manifest, and the proofs that lie beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.artifact import read_manifest
from edgekd.errors import EdgeKDError
from edgekd.schema import PROOF, RECORD

PROOFS = "proof"
"""The folder of them; see :mod:`edgekd.flow.proving`."""


@dataclass(frozen=True)
class Known:
    """All that is known of an artifact."""

    manifest: Mapping[str, Any]
    records: tuple[Mapping[str, Any], ...]
    """Measurements of these very files, as ``profile.schema.json`` has them, by device."""
    left_out: int
    """Proofs that are of other files, or that cannot be read."""

    def at(self, *keys: str) -> Any:
        """What the manifest holds there, or None."""
        return at(self.manifest, *keys)

    @property
    def is_network(self) -> bool:
        """Whether it is weights to train and to export, and not yet a file that runs."""
        return bool(self.manifest["kind"] == "network")

    @property
    def teacher(self) -> Mapping[str, Any] | None:
        """Who taught the network: its parent, or, of a file, its network's."""
        found = self.at("parent") if self.is_network else self.at("parent", "parent")
        return found if isinstance(found, Mapping) else None

    @property
    def says_who_taught(self) -> bool:
        """Whether no teacher means that there was none: files of older releases do not say."""
        parent = self.at("parent")
        return self.is_network or (isinstance(parent, Mapping) and "parent" in parent)

    @property
    def labels(self) -> list[str]:
        found = self.at("labels")
        return [str(label) for label in found] if isinstance(found, list) else []


def read(path: Path) -> Known:
    """Everything in the artifact's folder that a card speaks of.

    Raises:
        ArtifactError: there is no manifest, or it is not one of edgekd's.
    """
    manifest = read_manifest(path)
    hashes = {name: entry.get("sha256") for name, entry in manifest["files"].items()}
    files = sorted((path / PROOFS).glob("*.json"))
    found = [_record(file, hashes) for file in files]
    records = tuple(record for record in found if record is not None)
    return Known(manifest, records, len(files) - len(records))


def at(table: Any, *keys: str) -> Any:
    """What a nested table holds there, or None: older and foreign ones lack much."""
    for key in keys:
        table = table.get(key) if isinstance(table, Mapping) else None
    return table


def number(value: Any) -> float | None:
    """The value, if it is a number."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and math.isfinite(value) else None


def numbers(*values: Any) -> tuple[float, ...] | None:
    """The values, if all of them are numbers."""
    found = [number(value) for value in values]
    known = tuple(value for value in found if value is not None)
    return known if len(known) == len(found) else None


def pair(value: Any) -> tuple[Any, Any]:
    """Both ends of an interval, None where there is none."""
    return (value[0], value[1]) if isinstance(value, list) and len(value) == 2 else (None, None)


def _record(file: Path, hashes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The measurement in a proof, if it is of these files."""
    try:
        table = PROOF.load(file)
        record = RECORD.shown(at(table, "record"), file)
    except EdgeKDError:
        return None
    return record if isinstance(record, Mapping) and at(table, "files") == hashes else None
