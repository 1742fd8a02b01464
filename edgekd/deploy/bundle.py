"""Put a deployed folder together, or a tarball of it, whole or not at all."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from edgekd.agent.failures import AgentError
from edgekd.agent.onnx_file import check_weights
from edgekd.artifact import Artifact
from edgekd.deploy import settings, texts
from edgekd.deploy.fitting import check_fit
from edgekd.deploy.measured import Measured
from edgekd.deploy.places import SUMS, folder_name, is_archive, place_of
from edgekd.errors import ArtifactError, UsageError
from edgekd.files import aside, sha256
from edgekd.scratch import temporary

PAYLOAD = Path(__file__).parent / "payload"
CARD = "MODEL_CARD.md"


@dataclass(frozen=True)
class Bundle:
    """What was written."""

    path: Path
    """The folder, or the tarball."""
    files: dict[str, int]
    """Name -> bytes."""
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """Of the folder; of a tarball, of the folder in it."""
        return folder_name(self.path)


def bundle(artifact: Artifact, card: str, out: Path, measured: Measured | None = None) -> Bundle:
    """Write all that a device needs to classify pictures with an exported artifact.

    The same artifact and measurement make the same bytes; so does the tarball, whose files have the
    time at which the artifact was made.

    Args:
        artifact: of kind ``onnx`` or ``tensorrt``.
        card: its model card, Markdown.
        out: a folder, or a file whose name ends in ``.tar.gz`` or ``.tgz``; of a link, what it
            points to.
        measured: how it was measured, and so is to run.

    Raises:
        UsageError: the artifact is not exported; ``out`` holds something else; it cannot be
            written.
        ArtifactError: the manifest does not say how its model is run, or contradicts the model.
    """
    if artifact.manifest["kind"] == "network":
        raise UsageError(
            f"{artifact.path} is a network, which no device runs as it is. Export it first: "
            f"edgekd export {artifact.path} --onnx"
        )
    out = place_of(out)
    config = settings.settings(artifact, measured)
    check_fit(artifact, config["input"])
    if not is_archive(out):
        with aside(out) as draft:
            _fill(draft, artifact, card, config, measured)
            return Bundle(out, _sizes(draft), config)
    with temporary() as private, aside(out) as draft:
        folder = private / "deploy"
        _fill(folder, artifact, card, config, measured)
        _pack(folder, draft, folder_name(out), str(artifact.manifest["created"]))
        return Bundle(out, _sizes(folder), config)


def _fill(
    folder: Path, artifact: Artifact, card: str, config: dict[str, Any], measured: Measured | None
) -> None:
    """Write the files, and their hashes last."""
    folder.mkdir()
    for name in artifact.manifest["files"]:  # some files keep their weights beside them
        if name in (artifact.model_file.name, f"{artifact.model_file.name}.data"):
            shutil.copyfile(artifact.path / name, folder / name)
    _check_model(folder / artifact.model_file.name)
    programs = dict(zip(texts.PROGRAMS, texts.PROGRAMS, strict=True))
    programs["engine.py"] = f"engine_{config['runtime']['name']}.py"
    for name, source in programs.items():
        shutil.copyfile(PAYLOAD / source, folder / name)
    written = {
        settings.LABELS: texts.labels(artifact.manifest),
        settings.NAME: json.dumps(config, indent=1, allow_nan=False) + "\n",
        "requirements.txt": texts.requirements(config["runtime"], measured),
        texts.SERVICE: texts.unit(config["runtime"]),
        "README.md": texts.readme(artifact.manifest, config, measured),
        "LICENSE": texts.licence(),
        CARD: card,
    }
    for name, text in written.items():
        (folder / name).write_text(text, "utf-8", newline="\n")
    sums = "".join(f"{sha256(file)}  {file.name}\n" for file in sorted(folder.iterdir()))
    (folder / SUMS).write_text(sums, "utf-8", newline="\n")
    for file in folder.iterdir():
        file.chmod(_mode(file))


def _check_model(copied: Path) -> None:
    """Refuse a graph that a device could not run by itself, or that names files of the device's."""
    if copied.suffix == ".onnx":
        try:
            check_weights(copied)
        except AgentError as error:
            raise ArtifactError(str(error)) from error


def _pack(folder: Path, file: Path, name: str, created: str) -> None:
    """A tarball of the folder's files in a folder ``name``: sorted, one time, nobody's."""
    stamp = int(datetime.fromisoformat(created).timestamp())
    with (
        file.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for one in sorted(folder.iterdir()):
            entry = tarfile.TarInfo(f"{name}/{one.name}")
            entry.size, entry.mtime, entry.mode = one.stat().st_size, stamp, _mode(one)
            with one.open("rb") as content:
                tar.addfile(entry, content)


def _mode(file: Path) -> int:
    return 0o755 if file.name == "infer.py" else 0o644


def _sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
