"""Export: a network as a file that a runtime opens, proved to be the same network.

A plug-in on this shelf is a :class:`Format`. It writes into a folder of its own and proves what it
wrote. What fails the proof is kept under a name that ends in ``.rejected``, never as an artifact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import edgekd
from edgekd import plugins
from edgekd.artifact import Artifact, create, is_artifact, read_manifest
from edgekd.cards import write_card
from edgekd.data import Images
from edgekd.errors import GateError, UsageError
from edgekd.export._exporters import check_opset
from edgekd.export._names import REJECTED
from edgekd.export._network import reference
from edgekd.export._order import Calibration, Order
from edgekd.export._parity import Logits
from edgekd.export._quantising.calibration import calibration_of
from edgekd.export._running import answers
from edgekd.export._verdict import check_enough
from edgekd.files import private_folder, writing
from edgekd.hiding import hidden, nickname
from edgekd.models import Backbone, from_artifact

__all__ = [
    "REJECTED",
    "Calibration",
    "Format",
    "Order",
    "Written",
    "calibration_of",
    "check_enough",
    "check_opset",
    "export",
    "export_backbone",
    "float_answers",
]

CARRIED = ("role", "model", "labels", "metrics", "recipe", "method", "licence", "training")
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

    def __call__(self, backbone: Backbone, folder: Path, order: Order) -> Written:
        """Write the model file into the empty ``folder``.

        Raises:
            GateError: the file is not the network; it is left in ``folder`` as ``*.rejected``.
        """


def export(artifact: Artifact, out: Path, to: str, order: Order) -> Artifact:
    """Write a trained network as another format, with proof that the file is the same network.

    Args:
        artifact: of kind ``network``.
        out: folder of the new artifact; an older one there is replaced.
        to: name of the format, ``onnx`` or ``tensorrt``.
        order: what the file looks like, and the real images it is proved on.

    Raises:
        UnknownNameError: no such format.
        UsageError: the format cannot hold the network, or ``out`` holds a trained one.
        WeightsError: ``artifact`` is not a network.
        GateError: the proof failed; the file is kept as ``out/model.onnx.rejected``.
        AccuracyError: a reduced precision loses too much; the file is kept likewise.
    """
    return export_backbone(from_artifact(artifact), artifact, out, to, order)


def export_backbone(
    backbone: Backbone, parent: Artifact, out: Path, to: str, order: Order
) -> Artifact:
    """Do what :func:`export` does with a network that is already built."""
    write: Format = plugins.load("format", to)
    if is_artifact(out) and read_manifest(out)["kind"] == "network":
        raise UsageError(
            f"{out} holds a trained network; an export there would replace its manifest. "
            "Choose another folder with --output."
        )
    with private_folder(out) as scratch:
        try:
            with writing(out):
                written = write(backbone, scratch, order)
        except GateError as error:
            raise error.keeping(_keep_rejected(scratch, out)) from error
        manifest = {
            **{section: parent.manifest.get(section) for section in CARRIED},
            "recipe": hidden(parent.manifest.get("recipe")),  # of an older network it is in full
            "kind": written.kind,
            "input": dict(written.input),
            "parent": {
                "sha256": parent.sha256,
                "name": parent.path.name,
                "parent": parent.manifest.get("parent"),
            },
            "versions": _versions(),
            "export": {
                **written.export,
                "asked": asdict(order.options),
                "device": nickname(order.target.name),
                "tuned_from": order.tuned_from or None,
            },
        }
        with create(out, manifest) as folder:
            for file in scratch.iterdir():
                file.replace(folder / file.name)
        for rejected in out.glob(f"*{REJECTED}*"):
            rejected.unlink()  # of an earlier attempt, which this one makes good
        write_card(out)
    return Artifact.open(out)


def float_answers(artifact: Artifact, images: Images) -> Logits:
    """Logits (N, K) of a trained network, in float32."""
    backbone = from_artifact(artifact)
    return answers(reference(backbone.model), backbone.preprocess, images.pixels)


def _keep_rejected(scratch: Path, out: Path) -> str:
    """Move what failed its proof into ``out``; return what the user should know about it."""
    kept = [file.name for file in sorted(scratch.glob(f"*{REJECTED}*"))]
    with writing(out):
        out.mkdir(exist_ok=True)
        for name in kept:
            (scratch / name).replace(out / name)
    older = " The older artifact in that folder was not touched." if is_artifact(out) else ""
    return f"The file is kept as {out / kept[0]}, to look into.{older}" if kept else older.strip()


def _versions() -> dict[str, str]:
    return {"edgekd": edgekd.__version__, "torch": version("torch"), "timm": version("timm")}
