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

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgekd import schema, structure
from edgekd.errors import ArtifactError, NoArtifactError, UsageError
from edgekd.files import DRAFT, flush, private_folder, sha256, write_json, writing

MANIFEST = "manifest.json"
LONGEST_NAME = 255
"""Bytes of a file's name, as most file systems have it."""


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
        model: dict[str, Any] = {MODEL_FILES[manifest["kind"]]: {}}
        for name, entry in (model | manifest["files"]).items():
            if not (path / name).is_file():
                raise ArtifactError(f"{path} is not complete: {name} is missing. Make it again.")
            check_unchanged(path / name, entry)
        return cls(path, manifest)

    @property
    def sha256(self) -> str:
        """Hash of the manifest, hence of everything."""
        return sha256(self.path / MANIFEST)

    @property
    def model_file(self) -> Path:
        """The one file a runtime or a loader opens."""
        return self.path / MODEL_FILES[self.manifest["kind"]]


BESIDE = ("recipe.toml", "answers.json", "MODEL_CARD.md")
MODEL_FILES = {"network": "model.safetensors", "onnx": "model.onnx", "tensorrt": "model.plan"}


def check_unchanged(file: Path, entry: Mapping[str, Any]) -> None:
    """Verify a file by what its manifest says of it.

    Raises:
        ArtifactError: it was changed.
    """
    size = file.stat().st_size  # of a file that is no end of bytes, such as a link to one
    if size != entry.get("bytes", size) or sha256(file) != entry.get("sha256"):
        raise ArtifactError(
            f"{file} was changed after it was made: its sha256 is not the manifest's. "
            "Make it again, or take a copy that was not touched."
        )


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a folder, its schema checked and its files not."""
    try:
        manifest = schema.MANIFEST.load(path / MANIFEST)
    except ArtifactError as error:
        if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise
        found = f"there is no {path}"
        if path.exists():
            found = f"{path} is not an edgekd artifact: it has no {MANIFEST}"
        raise NoArtifactError(
            f"{found}. Expected a folder that edgekd teach, distill or export made."
        ) from error
    wrong = structure.mismatch(manifest, structure.schema_of("manifest"))
    names = () if wrong else manifest["files"]
    outside = next((name for name in names if not _is_plain(name)), None)
    if outside is not None:
        wrong = f"it names {structure.shown(outside)}, outside its folder"
    if wrong:
        raise ArtifactError(
            f"{path / MANIFEST} is not a whole manifest: {wrong}. Make the artifact again."
        )
    return manifest


def _is_plain(name: str) -> bool:
    """Whether it can be the name of a file in the artifact's own folder."""
    whole = name not in ("", "..") and Path(name).name == name
    return whole and name.isprintable() and len(name.encode()) <= LONGEST_NAME


def is_artifact(path: Path) -> bool:
    """Whether the folder holds a finished artifact."""
    return (path / MANIFEST).is_file()


def check_room(path: Path) -> None:
    """Refuse a folder with somebody's own files that those of an artifact would replace.

    Raises:
        UsageError: it has such a file, and neither a manifest nor what a killed process left; or
            its manifest is another program's.
    """
    if not path.is_dir():
        return
    schema.MANIFEST.check_place(path / MANIFEST)
    if os.path.lexists(path / MANIFEST) or any(path.glob(f"{DRAFT}*")):
        return
    for name in (*MODEL_FILES.values(), *BESIDE):
        if os.path.lexists(path / name):
            raise UsageError(
                f"{path} holds {name}, but no {MANIFEST}: it is no artifact of edgekd's, and the "
                "file would be replaced. Move it away, or choose another --output."
            )


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
        try:
            for name in files:
                (draft / name).replace(path / name)
            stamp = datetime.now(UTC).isoformat(timespec="seconds")
            head = {**schema.MANIFEST.head, "created": stamp, "files": files}
            write_json(path / MANIFEST, head | dict(manifest))
        except BaseException:  # else nothing would tell them from files of others
            for name in files:
                (path / name).unlink(missing_ok=True)
            raise
