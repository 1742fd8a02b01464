"""Proofs: what was measured of an artifact on a device, kept in its folder to be repeated.

``ARTIFACT/proof/DEVICE.json``::

    schema_version  1
    device          the device's name in records
    files           name -> sha256 of the artifact's files then
    model_sha256    that of the file that runs
    record          the measurement, as profile.schema.json says
    data            where the images came from, as in a recipe, or null
    images          {sha256, n} of the decoded images, or null
    predictions     the class of each image, or null
    answers         the logits of the first image of each timed input, or null
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.artifact import Artifact, read_manifest
from edgekd.errors import ArtifactError, UsageError
from edgekd.files import write_json

FOLDER = "proof"
SCHEMA_VERSION = 1

Logits = tuple[float | None, ...]
"""None where a logit is not a finite number."""


@dataclass(frozen=True)
class Proof:
    """What a device was found to do with an artifact."""

    device: str
    model_sha256: str
    record: Mapping[str, Any]
    data: Mapping[str, Any] | None
    images_sha256: str | None
    predictions: tuple[int, ...] | None
    answers: tuple[Logits, ...] | None


def keep(
    artifact_path: Path,
    device: str,
    record: Mapping[str, Any],
    data: Mapping[str, Any] | None,
    images_sha256: str | None,
    predictions: Sequence[int] | None,
    answers: Sequence[Sequence[float | None]] | None,
) -> Path:
    """Keep a measurement in the artifact's folder; it replaces the device's last one.

    Args:
        artifact_path: the artifact's folder.
        device: the device's name in records.
        record: the measurement.
        data: the recipe's table of where the images came from, if there were any.
        images_sha256: of the decoded images, in order.
        predictions: the class of each image.
        answers: the logits of the first image of each timed input; None for what is no number.

    Returns:
        The file.
    """
    images = None
    if images_sha256 is not None and predictions is not None:
        images = {"sha256": images_sha256, "n": len(predictions)}
    file = _file(artifact_path, device)
    write_json(
        file,
        {
            "schema_version": SCHEMA_VERSION,
            "device": device,
            "files": _hashes(artifact_path),
            "model_sha256": record["artifact"]["sha256"],
            "record": dict(record),
            "data": None if data is None else dict(data),
            "images": images,
            "predictions": None if predictions is None else [int(p) for p in predictions],
            "answers": None if answers is None else [_finite(logits) for logits in answers],
        },
    )
    return file


def read(artifact_path: Path, device: str) -> Proof:
    """The proof of an artifact on a device.

    Raises:
        UsageError: there is none, or it is one of other files: the artifact was made again.
        ArtifactError: the artifact's files or the proof are not what they were written as.
    """
    Artifact.open(artifact_path)
    file = _file(artifact_path, device)
    again = f"Run edgekd profile {artifact_path} --device {device} first."
    if not file.is_file():
        raise UsageError(
            f"{artifact_path} holds no proof for {device}{_others(artifact_path)}. {again}"
        )
    table = _table(file)
    if table["device"] != device:
        raise UsageError(f"{file} is the proof of {table['device']}, not of {device}. {again}")
    then, now = table["files"], _hashes(artifact_path)
    if then != now:
        name = next(name for name in sorted({*then, *now}) if then.get(name) != now.get(name))
        raise UsageError(
            f"the proof for {device} is of another model: {name} has sha256 "
            f"{now.get(name, 'none')[:12]} and had {then.get(name, 'none')[:12]} when it was "
            f"measured. The artifact was made again since. {again}"
        )
    return _proof(file, table)


def _file(artifact_path: Path, device: str) -> Path:
    return artifact_path / FOLDER / f"{re.sub('[^A-Za-z0-9._-]', '-', device)}.json"


def _hashes(artifact_path: Path) -> dict[str, str]:
    files = read_manifest(artifact_path)["files"]
    return {name: entry["sha256"] for name, entry in files.items()}


def _finite(logits: Sequence[float | None]) -> list[float | None]:
    """JSON has no infinity."""
    return [None if x is None or not math.isfinite(x) else float(x) for x in logits]


def _others(artifact_path: Path) -> str:
    files = sorted((artifact_path / FOLDER).glob("*.json"))
    names = [str(_table(file)["device"]) for file in files]
    return f"; there is one for {', '.join(names)}" if names else ", nor for another device"


def _table(file: Path) -> dict[str, Any]:
    """A proof's table, with all that it has to have at its top."""
    try:
        table = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{file} cannot be read: {error}. {_REMEDY}") from error
    version = table.get("schema_version") if isinstance(table, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{file} has schema {version!r}; this edgekd reads {SCHEMA_VERSION}. {_REMEDY}"
        )
    missing = sorted({"device", "files", *Proof.__dataclass_fields__, "images"} - {"images_sha256"})
    missing = [name for name in missing if name not in table]
    if missing or not isinstance(table["files"], dict):
        raise ArtifactError(f"{file} has no {' and no '.join(missing or ['files'])}. {_REMEDY}")
    checked: dict[str, Any] = table
    return checked


_READ = (
    ("artifact", "precision_found"),
    ("device", "governor"),
    ("evidence", "asked"),
    ("memory", "peak_rss_bytes"),
    ("policy", "threads"),
    ("runtime", "version"),
    ("timing", "median"),
    ("verdict", "state"),
)
"""What is read of a record, at least."""
_REMEDY = "Remove it, and run edgekd profile on that device again."


def _proof(file: Path, table: Mapping[str, Any]) -> Proof:
    try:
        images, predictions, answers = table["images"], table["predictions"], table["answers"]
        record = table["record"]
        for section, entry in _READ:
            record[section][entry]
        if record["artifact"]["sha256"] != table["model_sha256"]:
            raise ValueError("its record is of another model than it says")
        if images is not None and images["n"] != len(predictions):
            raise ValueError(f"{len(predictions)} predictions of {images['n']} images")
        return Proof(
            table["device"],
            table["model_sha256"],
            record,
            table["data"],
            None if images is None else images["sha256"],
            None if predictions is None else tuple(int(p) for p in predictions),
            None if answers is None else tuple(tuple(logits) for logits in answers),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{file} is not a whole proof: {error!s}. {_REMEDY}") from error
