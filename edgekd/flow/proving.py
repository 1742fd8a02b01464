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

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgekd.artifact import MODEL_FILES, Artifact, read_manifest
from edgekd.errors import ArtifactError, UsageError
from edgekd.files import write_json
from edgekd.hiding import hidden, nickname
from edgekd.schema import PROOF, RECORD
from edgekd.structure import cut, mismatch, partly, schema_of

FOLDER = "proof"
LONGEST = 200
"""Letters of a device's name in that of a file."""

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

    Raises:
        UsageError: the artifact was made again since: the proof would vouch for another model.
    """
    _check_measured(artifact_path, record["artifact"]["sha256"])
    images = None
    if images_sha256 is not None and predictions is not None:
        images = {"sha256": images_sha256, "n": len(predictions)}
    file = artifact_path / FOLDER / _name(nickname(device))
    write_json(
        file,
        {
            **PROOF.head,
            "device": nickname(device),
            "files": _hashes(artifact_path),
            "model_sha256": record["artifact"]["sha256"],
            "record": _shareable(record),
            "data": None if data is None else hidden(data),
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
    if nickname(str(table["device"])) != nickname(device):
        raise UsageError(f"{file} is the proof of {cut(table['device'])}, not of {device}. {again}")
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
    """The proof of a device; the first ones of addresses were called by these."""
    names = [_name(nickname(device)), _name(device)]
    files = [artifact_path / FOLDER / name for name in names]
    return next((file for file in files if file.is_file()), files[0])


def _name(device: str) -> str:
    name = re.sub("[^A-Za-z0-9._-]", "-", device)
    if len(name) > LONGEST:
        name = (
            f"{name[:LONGEST]}-{hashlib.sha256(device.encode('utf-8', 'replace')).hexdigest()[:16]}"
        )
    return f"{name}.json"


def _shareable(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without what is nobody's business: it goes where the artifact goes."""
    device = record["device"]
    kept = {key: None if key == "command" else value for key, value in record.items()}
    return {**kept, "device": {**device, "profile": nickname(str(device["profile"]))}}


def _hashes(artifact_path: Path) -> dict[str, str]:
    files = read_manifest(artifact_path)["files"]
    return {name: entry["sha256"] for name, entry in files.items()}


def _check_measured(artifact_path: Path, measured: str) -> None:
    """Nothing keeps an export from writing into a folder while what lay there is measured."""
    manifest = read_manifest(artifact_path)
    name = MODEL_FILES[manifest["kind"]]
    found = manifest["files"].get(name, {}).get("sha256", "none")
    if found != measured:
        raise UsageError(
            f"{artifact_path} was made again while it was measured: {name} has sha256 "
            f"{found[:12]} now, the model that was measured {measured[:12]}. Run edgekd profile "
            "again when nothing writes there."
        )


def _finite(logits: Sequence[float | None]) -> list[float | None]:
    """JSON has no infinity."""
    return [None if x is None or not math.isfinite(x) else float(x) for x in logits]


def _others(artifact_path: Path) -> str:
    files = sorted((artifact_path / FOLDER).glob("*.json"))
    names = [str(_table(file)["device"]) for file in files]
    return f"; there is one for {', '.join(names)}" if names else ", nor for another device"


def _table(file: Path) -> dict[str, Any]:
    """A proof's table, with all that it has to have at its top."""
    table = PROOF.load(file)
    table.setdefault("answers", None)  # which the first ones did not keep
    wrong = mismatch(table, _FORM) or mismatch(table["record"], _record())
    if wrong:
        raise ArtifactError(f"{file} is not a whole proof: {cut(wrong, 200)}. {_REMEDY}")
    return table


_PLAIN = {"type": "string", "minLength": 1}
_FORM: dict[str, Any] = {
    "required": ["device", "files", "model_sha256", "record", "data", "images", "predictions"],
    "properties": {
        "device": _PLAIN,
        "files": {"type": "object", "additionalProperties": {"type": "string"}},
        "model_sha256": _PLAIN,
        "record": {"type": "object"},
        "data": {"type": ["object", "null"]},
        "images": {
            "anyOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "required": ["sha256", "n"],
                    "properties": {"sha256": _PLAIN, "n": {"type": "integer", "minimum": 0}},
                },
            ]
        },
        "predictions": {"type": ["array", "null"], "items": {"type": "integer", "minimum": 0}},
        "answers": {
            "type": ["array", "null"],
            "items": {"type": "array", "items": {"type": ["number", "null"]}},
        },
    },
}


@cache
def _record() -> Mapping[str, Any]:
    """Of a record, what is there has to fit; and what is read here has to be there."""
    found = partly(schema_of("profile"), "measurement")
    needed: dict[str, Any] = {name: {"required": list(keys)} for name, keys in _READ.items()}
    ends = {"required": ["value", "lo", "hi"]}
    needed["timing"]["properties"] = dict.fromkeys(_READ["timing"], ends)
    return {**found, "required": ["edgekd_version", *needed], "properties": needed}


_READ = {
    "artifact": ("sha256", "precision_found"),
    "device": ("profile", "soc", "cpu", "gpu", "governor", "os", "kernel", "power_mode"),
    "evidence": ("asked",),
    "memory": ("peak_rss_bytes",),
    "policy": ("threads", "affinity", "input", "order"),
    "runtime": ("name", "version", "provider"),
    "timing": ("median", "median_undisturbed", "p95"),
    "verdict": ("state", "reasons"),
}
"""What is read of a record, at least."""
_REMEDY = "Remove it, and run edgekd profile on that device again."


def _proof(file: Path, table: Mapping[str, Any]) -> Proof:
    try:
        images, predictions, answers = table["images"], table["predictions"], table["answers"]
        record = RECORD.shown(table["record"], file)
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
