"""Export an artifact on real images of the data it was trained on."""

from __future__ import annotations

from pathlib import Path

from edgekd.artifact import Artifact
from edgekd.errors import ArtifactError
from edgekd.export import export
from edgekd.loading import check_labels, open_splits, some_images
from edgekd.preprocess import Preprocess
from edgekd.recipe import Data, Export, Recipe, recipe_from
from edgekd.watching import Silent, Watch


def export_network(
    network: Artifact,
    out: Path,
    options: Export,
    data: Data | None = None,
    watch: Watch | None = None,
    to: str = "onnx",
) -> Artifact:
    """Write the network as ``to`` and prove on validation images that it is the same network.

    Args:
        network: of kind ``network``.
        out: folder of the exported artifact.
        options: what the file looks like.
        data: whose images to prove it on; ``None`` takes what the network was trained on.
        watch: told the stages.
        to: name of a format.

    Raises:
        GateError: the exported file is not the network.
        DataError: the images are not those of the network's classes.
    """
    watch = watch or Silent()
    data = data or recipe_of(network).data
    splits = open_splits(data)
    check_labels(splits, network.manifest["labels"], str(network.path))
    watch.progress("export", 0, 1, out.name)
    preprocess = Preprocess.from_dict(network.manifest["input"])
    images = some_images(splits.validation, preprocess, options.samples)
    made = export(network, out, to, options, images)
    watch.progress("export", 1, 1, out.name)
    return made


def already_exported(network: Artifact, out: Path, options: Export) -> Artifact | None:
    """What ``out`` holds, if it is this very network as ``options`` say; else ``None``."""
    try:
        found = Artifact.open(out)
    except ArtifactError:  # none, or a damaged one: it is made again
        return None
    parent, made = found.manifest.get("parent") or {}, found.manifest.get("export") or {}
    asked = {"opset": options.opset, "float_input": options.float_input}
    same = parent.get("sha256") == network.sha256
    return found if same and all(made.get(k) == v for k, v in asked.items()) else None


def recipe_of(artifact: Artifact) -> Recipe:
    """The recipe an artifact was made with."""
    return recipe_from(artifact.manifest["recipe"])
