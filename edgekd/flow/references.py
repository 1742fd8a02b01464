"""References: what the float network behind an exported model says about the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.artifact import MANIFEST, Artifact, is_artifact, read_manifest
from edgekd.errors import EdgeKDError
from edgekd.files import read_json, sha256
from edgekd.flow.gallery import Gallery, Shown
from edgekd.flow.grouping import TAKEN
from edgekd.recipe import recipe_from
from edgekd.watching import Watch

if TYPE_CHECKING:
    from edgekd.data import Images

FLOAT = "fp32"
ANSWERS = "answers.json"
"""Beside a trained network: what it said about the test images."""
SPOT_CHECK = 64
"""Images that answers from an earlier day are tried on before all of them are believed."""
TIES = 1
"""Of those, as many may fall the other way on another processor."""


@dataclass(frozen=True)
class Reference:
    """Where a model's reference comes from; one of the three."""

    predictions: Sequence[int] | None = None
    model: Path | None = None
    """The float export among the models of the call: what it says on the same device."""
    missing: str = ""
    """Why there is none."""


def find_references(
    models: Sequence[Path], given: Sequence[int] | None, gallery: Gallery, watch: Watch
) -> dict[Path, Reference]:
    """The reference of each artifact among the models.

    Args:
        models: artifacts' folders, and files, which have none.
        given: what the float network behind the first model says.
        gallery: the test images.
        watch: told of the network that is run here.

    Returns:
        For reduced precisions the float export of the same network, where it is among the models;
        else the answers of the network itself, where it lies beside the artifact.
    """
    search = _Search(models, given, gallery, watch)
    return {path: search.reference(path) for path in dict.fromkeys(models)}


class _Search:
    """Looks each network up once."""

    def __init__(
        self, models: Sequence[Path], given: Sequence[int] | None, gallery: Gallery, watch: Watch
    ) -> None:
        self._gallery, self._watch = gallery, watch
        self._manifests = {path: read_manifest(path) for path in models if path.is_dir()}
        self._answers: dict[tuple[str, str, bool], Reference] = {}
        self._given = given
        self._of_given = _network(self._manifests.get(models[0]))

    def reference(self, path: Path) -> Reference:
        manifest = self._manifests.get(path)
        network = _network(manifest)
        if manifest is None or not network:
            return Reference(missing="it does not say which network it was exported from")
        if self._given is not None and network == self._of_given:
            return Reference(self._given)
        if not _is_float(manifest):
            for other, its in self._manifests.items():
                if _is_float(its) and _network(its) == network and _taken(its) == _taken(manifest):
                    return Reference(model=other)
        key = (network, self._gallery.shown(manifest["input"]).sha256, _is_float(manifest))
        if key not in self._answers:
            self._answers[key] = self._ask(path, network, manifest)
        return self._answers[key]

    def _ask(self, path: Path, network: str, manifest: Mapping[str, Any]) -> Reference:
        """What the network itself says, here."""
        shown = self._gallery.shown(manifest["input"])
        try:
            beside, unread = _beside(path, network)
            if beside is None:
                return Reference(
                    missing=f"no fp32 export of its network is among the models, and the network "
                    f"itself ({network[:12]}) is not beside {path}{unread}"
                )
            kept = _remembered(beside, shown, self._gallery)
            if kept is not None:
                return Reference(kept)
            if _is_float(manifest):  # which nothing was taken from: not worth a run of hours
                return Reference(
                    missing=f"it is the float export, and {beside.path} keeps no answers to these "
                    "images"
                )
            self._watch.progress("reference", 0, 1, beside.path.name)
            found = _predict(beside, shown.read())
        except EdgeKDError as error:  # a damaged one is no reason not to measure
            return Reference(missing=f"its network cannot be run: {error}")
        self._watch.progress("reference", 1, 1, beside.path.name)
        return Reference(found)


def _network(manifest: Mapping[str, Any] | None) -> str:
    """Of which network an export is; one that was tuned for int8 is held against the one before."""
    manifest = manifest or {}
    tuned = (manifest.get("export") or {}).get("tuned_from")
    return str(tuned or (manifest.get("parent") or {}).get("sha256") or "")


def _is_float(manifest: Mapping[str, Any]) -> bool:
    return (manifest.get("export") or {}).get("precision_asked") == FLOAT


def _taken(manifest: Mapping[str, Any]) -> list[Any]:
    return [manifest["input"][name] for name in TAKEN]


def _beside(path: Path, network: str) -> tuple[Artifact | None, str]:
    """The network of that hash in the folder that the artifact lies in.

    Returns:
        Also the first of what lies there and cannot be read, in words: such as other users' folders
        in ``/tmp``, which are no reason not to measure.
    """
    place, unread = path.resolve().parent, ""
    try:
        folders = sorted(place.iterdir())
    except OSError as error:
        return None, _unread(place, error)
    for folder in folders:
        try:
            if is_artifact(folder) and sha256(folder / MANIFEST) == network:
                return Artifact.open(folder), ""
        except OSError as error:
            unread = unread or _unread(folder, error)
    return None, unread


def _unread(place: Path, error: OSError) -> str:
    return f" ({error.filename or place} cannot be read: {error.strerror})"


def _remembered(network: Artifact, shown: Shown, gallery: Gallery) -> list[int] | None:
    """What the network said when it was trained, if that was about these very images.

    Running it over a big test set again can take longer than the measurement.
    """
    import numpy as np

    from edgekd.data import Images

    test, asked = shown.read(), gallery.data
    made_with, file = recipe_from(network.manifest.get("recipe") or {}).data, network.path / ANSWERS
    if (made_with.source, made_with.test) != (asked.source, asked.test) or not file.is_file():
        return None
    said = _said(file, test.targets.tolist())
    if said is None or len(test) <= SPOT_CHECK:
        return None
    spots = np.linspace(0, len(test) - 1, SPOT_CHECK).round().astype(np.int64)
    tried = _predict(network, Images(test.pixels[spots], test.targets[spots]))
    if sum(said[spot] != now for spot, now in zip(spots, tried, strict=True)) > TIES:
        return None
    return said


def _said(file: Path, targets: Sequence[int]) -> list[int] | None:
    """The classes a network chose for images of these classes, as its training left them.

    The network may be somebody else's, and the file anything.
    """
    try:
        kept = read_json(file)
        said = [int(value) for value in kept["predictions"]]
        same = kept["targets"] == targets
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return said if same and len(said) == len(targets) else None


def _predict(network: Artifact, images: Images) -> list[int]:
    from edgekd.export import float_answers

    return [int(value) for value in float_answers(network, images).argmax(axis=1)]
