"""Export: a network as a file that a runtime opens, proved to be the same network.

A plug-in on this shelf is a :class:`Format`. It writes into a folder of its own and proves what it
wrote. What fails the proof is kept under a name that ends in ``.rejected``, never as an artifact.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import edgekd
from edgekd import plugins
from edgekd.artifact import Artifact, create, is_artifact, read_manifest
from edgekd.data import Images
from edgekd.errors import GateError, UsageError
from edgekd.files import writing
from edgekd.models import Backbone, from_artifact
from edgekd.recipe import Export

__all__ = ["REJECTED", "Format", "Written", "export", "export_backbone"]

REJECTED = ".rejected"
CARRIED = ("role", "model", "labels", "metrics", "recipe", "training")
"""Sections of the manifest that an export does not change."""


@dataclass(frozen=True)
class Written:
    """What a format put into its folder: two sections of the manifest."""

    kind: str
    """Kind of the artifact, see :mod:`edgekd.artifact`."""
    input: Mapping[str, Any]
    export: Mapping[str, Any]


class Format(Protocol):
    """Writes a network as a file and proves it."""

    def __call__(
        self, backbone: Backbone, folder: Path, options: Export, images: Images
    ) -> Written:
        """Write the model file into the empty ``folder``.

        Raises:
            GateError: the file is not the network; it is left in ``folder`` as ``*.rejected``.
        """


def export(artifact: Artifact, out: Path, to: str, options: Export, images: Images) -> Artifact:
    """Write a trained network as another format, with proof that the file is the same network.

    Args:
        artifact: of kind ``network``.
        out: folder of the new artifact; an older one there is replaced.
        to: name of the format, ``onnx``.
        options: what the file looks like.
        images: real images, of the size the network takes, on which file and network must agree.

    Raises:
        UnknownNameError: no such format.
        UsageError: the format cannot hold the network, or ``out`` holds a trained one.
        WeightsError: ``artifact`` is not a network.
        GateError: the proof failed; the file is kept as ``out/model.onnx.rejected``.
    """
    return export_backbone(from_artifact(artifact), artifact, out, to, options, images)


def export_backbone(
    backbone: Backbone, parent: Artifact, out: Path, to: str, options: Export, images: Images
) -> Artifact:
    """Do what :func:`export` does with a network that is already built."""
    write: Format = plugins.load("format", to)
    if is_artifact(out) and read_manifest(out)["kind"] == "network":
        raise UsageError(
            f"{out} holds a trained network; an export there would replace its manifest. "
            "Choose another folder with --output."
        )
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        try:
            with writing(out):
                written = write(backbone, scratch, options, images)
        except GateError as error:
            raise GateError(f"{error} {_keep_rejected(scratch, out)}") from error
        manifest = {
            **{section: parent.manifest.get(section) for section in CARRIED},
            "kind": written.kind,
            "input": dict(written.input),
            "parent": {"sha256": parent.sha256, "name": parent.path.name},
            "versions": _versions(),
            "export": dict(written.export),
        }
        with create(out, manifest) as folder:
            for file in scratch.iterdir():
                file.replace(folder / file.name)
        for rejected in out.glob(f"*{REJECTED}"):
            rejected.unlink()  # of an earlier attempt, which this one makes good
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Artifact.open(out)


def _keep_rejected(scratch: Path, out: Path) -> str:
    """Move what failed its proof into ``out``; return what the user should know about it."""
    kept = [file.name for file in sorted(scratch.glob(f"*{REJECTED}"))]
    with writing(out):
        out.mkdir(exist_ok=True)
        for name in kept:
            (scratch / name).replace(out / name)
    older = " The older artifact in that folder was not touched." if is_artifact(out) else ""
    return f"The file is kept as {out / kept[0]}, to look into.{older}" if kept else older.strip()


def _versions() -> dict[str, str]:
    return {"edgekd": edgekd.__version__, "torch": version("torch"), "timm": version("timm")}
