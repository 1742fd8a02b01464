"""Build a backbone from a recipe's words: a name, and where its weights come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from edgekd.artifact import Artifact, is_artifact
from edgekd.errors import WeightsError
from edgekd.hiding import stranger
from edgekd.models import licences, weights, zoo
from edgekd.models.backbone import Backbone
from edgekd.models.licences import Licences
from edgekd.preprocess import Preprocess
from edgekd.recipe import Network

FILES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")


def build(
    network: Network, labels: Sequence[str], size: int = 0, *, new_head: bool = False
) -> Backbone:
    """Make the network a recipe names, with a head for ``labels``.

    Args:
        network: its name and its weights, see :class:`edgekd.recipe.Network`.
        labels: class names of the data.
        size: side of the input in pixels; 0 takes what the weights expect.
        new_head: start a new head where the weights tell other classes, to be trained next.

    Raises:
        UnknownNameError: no such network.
        WeightsError: weights that are missing, unsafe, or of other classes without ``new_head``.
    """
    folder = _place_of(network)
    if folder is not None and is_artifact(folder):
        return _from_folder(network, folder, labels, size, new_head=new_head)
    if folder is not None and (folder.is_file() or folder.is_dir()):
        model = zoo.create(_named(network), len(labels), size)
        if folder.is_dir():
            folder = _only_weights(folder)
        weights.fit(model, weights.read(folder), str(folder), new_head=new_head)
        return _backbone(network.name, model, labels, size, licences.of_file(str(folder)))
    if folder is not None and ("/" in network.weights or folder.suffix in FILES):
        raise WeightsError(
            f"there is no file or folder {folder} with the weights. Correct the path."
        )
    tag = {"": None, "pretrained": ""}.get(network.weights, network.weights)
    published = tag is not None or network.name.startswith(zoo.HUB)
    if published and not new_head:
        model = zoo.create(_named(network), 0, size, tag)
        _check_classes(network.name, zoo.head_classes(model), labels)
    else:
        model = zoo.create(_named(network), len(labels), size, tag)
    origin = licences.of_published(model, network.name) if published else ()
    return _backbone(network.name, model, labels, size, origin)


def _place_of(network: Network) -> Path | None:
    """Where the weights may be: a path, or the tag of published ones."""
    remedy = "Name it with --teacher or --student, as NAME:WEIGHTS or an artifact's folder."
    for text in (network.name, network.weights):
        if wrong := stranger(text, "where the network lies", remedy):
            raise WeightsError(wrong)
    if network.weights in ("", "pretrained"):
        return None
    return place_of(network.weights)


def place_of(weights: str) -> Path:
    """Where weights lie, if they are no tag of published ones.

    Raises:
        WeightsError: nothing can lie there, or what does is a pipe or a device.
    """
    place = Path(weights)
    try:
        special = place.exists() and not (place.is_file() or place.is_dir())
    except OSError as error:
        raise WeightsError(f"no weights at {place}: {error.strerror}. Correct the path.") from error
    if special:
        raise WeightsError(
            f"{place} is a pipe or a device; expected a file of weights or an artifact's folder. "
            "Correct the path."
        )
    return place


def from_artifact(artifact: Artifact) -> Backbone:
    """The network an artifact of kind ``network`` holds, in evaluation mode.

    Raises:
        WeightsError: the artifact is an exported file, or its weights do not fit.
    """
    manifest = artifact.manifest
    if manifest["kind"] != "network":
        raise WeightsError(
            f"{artifact.path} is an exported {manifest['kind']} file; expected a network, "
            "as edgekd teach and distill leave it."
        )
    try:
        name, labels = str(manifest["model"]["name"]), tuple(map(str, manifest["labels"]))
        preprocess = Preprocess.from_dict(manifest["input"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"the manifest of {artifact.path} does not describe a network ({error!r}). "
            "Make the artifact again."
        ) from error
    if name.startswith(zoo.HUB):
        raise WeightsError(
            f"{artifact.path} says that its network is {name}, which would be fetched from "
            "elsewhere; expected the name of a network that is here. Make the artifact again, or "
            f"give NAME:{artifact.path / 'model.safetensors'}, with the network's own name."
        )
    model = zoo.create(name, len(labels), preprocess.size[0])
    weights.fit(model, weights.read(artifact.model_file), str(artifact.path))
    origin = licences.of_manifest(manifest)
    return Backbone(name, model.eval(), preprocess, labels, artifact.sha256, origin)


def _from_folder(
    network: Network, folder: Path, labels: Sequence[str], size: int, *, new_head: bool
) -> Backbone:
    artifact = Artifact.open(folder)
    found = from_artifact(artifact)
    if network.name and network.name != found.name:
        raise WeightsError(f"{folder} holds a {found.name}; expected a {network.name}, as named.")
    if new_head:
        model = zoo.create(found.name, len(labels), size or found.preprocess.size[0])
        weights.fit(model, found.model.state_dict(), str(folder), new_head=True)
        side = size or found.preprocess.size[0]
        return _backbone(found.name, model, labels, side, found.licences)
    if found.labels != tuple(labels):
        _check_classes(str(folder), len(found.labels), labels)
        raise WeightsError(
            f"{folder} was trained on the classes {_few(found.labels)}; the data has "
            f"{_few(labels)}, in this order. Expected the same names in the same order."
        )
    return found


def _check_classes(where: str, found: int, labels: Sequence[str]) -> None:
    if found != len(labels):
        raise WeightsError(
            f"{where} tells {found} classes, the data has {len(labels)}. Fine-tune it on this data "
            "first, with edgekd teach, and give the folder that makes."
        )


def _named(network: Network) -> str:
    if not network.name:
        raise WeightsError(
            f"{network.weights or 'the recipe'} does not say which network it is. "
            f"Write NAME:{network.weights or 'WEIGHTS'}."
        )
    return network.name


def _only_weights(folder: Path) -> Path:
    """The one file of weights in a folder that is no artifact, such as one from a hub."""
    found = sorted(file for file in folder.iterdir() if file.suffix == ".safetensors")
    if len(found) != 1:
        raise WeightsError(
            f"{folder} holds {len(found)} .safetensors files and no manifest.json; expected an "
            "edgekd artifact or exactly one file of weights."
        )
    return found[0]


def _backbone(
    name: str, model: nn.Module, labels: Sequence[str], size: int, origin: Licences
) -> Backbone:
    # a hub's name would be asked for again each time the artifact is opened
    name = zoo.architecture(model) if name.startswith(zoo.HUB) else name
    shown = zoo.preprocess_of(model, size)
    return Backbone(name, model, shown, tuple(labels), licences=origin)


def _few(labels: Sequence[str]) -> str:
    return json.dumps(list(labels[:4]))[:-1] + (", ...]" if len(labels) > 4 else "]")
