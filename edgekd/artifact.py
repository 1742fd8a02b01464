"""Artifact: a folder of model files and a manifest that says, and proves, what they are.

``manifest.json``::

    schema_version  1
    kind            "network" (model.safetensors), "onnx" (model.onnx) or "tensorrt" (model.plan,
                    and beside it the model.onnx that it can be built from again)
    role            "teacher", "student", "peer", "baseline"
    created         UTC, ISO 8601
    files           name -> {sha256, bytes}
    model           {name, arguments, parameters, macs}
    input           {size [H, W], mean, std, interpolation, crop_pct, dtype, layout}
    labels          class names, in the order of the logits
    metrics         split -> {top1, top5, loss, n}
    recipe          the recipe, whole
    method          the formula it was trained with; empty for labels alone
    parent          {sha256 of the parent's manifest, name} or null; of a student also {licence,
                    validation {top1, n, delta, delta_interval} of its teacher}, of an export also
                    {parent}, the network's own parent
    licence         [{name, of, source, url}] of the published weights that it began with; empty if
                    it began at random, null if nobody said
    versions        package -> version
    training        {epochs, steps, seconds, precision, images, augment, ...} or null
    export          {exporter, opset, precision, nodes, parity, ...} or null
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgekd.errors import ArtifactError
from edgekd.files import flush, private_folder, sha256, write_json, writing

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Artifact:
    """A complete folder whose files are what its manifest says."""

    path: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> Artifact:
        """Read a folder and verify every file's hash.

        Raises:
            ArtifactError: no manifest, a newer schema, a file missing or changed.
        """
        manifest = read_manifest(path)
        hashes = {name: entry.get("sha256") for name, entry in manifest["files"].items()}
        for name, expected in {MODEL_FILES[manifest["kind"]]: None, **hashes}.items():
            file = path / name
            if Path(name).name != name:
                raise ArtifactError(f"{path / MANIFEST} names {name!r}, outside its folder.")
            if not file.is_file():
                raise ArtifactError(f"{path} is not complete: {name} is missing. Make it again.")
            if sha256(file) != expected:
                raise ArtifactError(
                    f"{file} was changed after it was made: its sha256 is not the manifest's. "
                    "Make it again, or take a copy that was not touched."
                )
        return cls(path, manifest)

    @property
    def sha256(self) -> str:
        """Hash of the manifest, hence of everything."""
        return sha256(self.path / MANIFEST)

    @property
    def model_file(self) -> Path:
        """The one file a runtime or a loader opens."""
        return self.path / MODEL_FILES[self.manifest["kind"]]


MODEL_FILES = {"network": "model.safetensors", "onnx": "model.onnx", "tensorrt": "model.plan"}


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a folder, its schema checked and its files not."""
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{path} is not an edgekd artifact: it has no {MANIFEST}. "
            "Expected a folder that edgekd teach, distill or export made."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path / MANIFEST} cannot be read: {error}.") from error
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path / MANIFEST} has schema {version!r}; this edgekd reads {SCHEMA_VERSION}. "
            "Update edgekd, or make the artifact again."
        )
    if manifest.get("kind") not in MODEL_FILES:
        raise ArtifactError(
            f"{path / MANIFEST} has kind {manifest.get('kind')!r}; "
            f"expected one of {', '.join(MODEL_FILES)}."
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise ArtifactError(f"{path / MANIFEST} does not list its files. Make the artifact again.")
    checked: dict[str, Any] = manifest
    return checked


def is_artifact(path: Path) -> bool:
    """Whether the folder holds a finished artifact."""
    return (path / MANIFEST).is_file()


@contextmanager
def create(path: Path, manifest: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a folder to write the files into; they become the artifact when the block succeeds.

    What else stands at ``path``, such as a training's state, stays. The manifest is written last:
    a folder without one is not an artifact, however the writing ended.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    with writing(path), private_folder(path / MANIFEST) as draft:
        yield draft
        files = {
            file.name: {"sha256": sha256(file), "bytes": file.stat().st_size}
            for file in sorted(draft.iterdir())
        }
        flush(draft)
        (path / MANIFEST).unlink(missing_ok=True)
        for name in files:
            (draft / name).replace(path / name)
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        head = {"schema_version": SCHEMA_VERSION, "created": stamp, "files": files}
        write_json(path / MANIFEST, head | dict(manifest))
