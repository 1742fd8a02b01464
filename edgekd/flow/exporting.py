"""Export an artifact on real images of the data it was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgekd.artifact import Artifact
from edgekd.cards import write_card
from edgekd.claims import claim
from edgekd.errors import ArtifactError
from edgekd.flow.fastest import export_fastest
from edgekd.flow.ordering import Exporting
from edgekd.flow.repairing import export_repaired
from edgekd.flow.targeting import check_reachable, target_of
from edgekd.hiding import nickname
from edgekd.loading import check_apart, check_labels, open_splits
from edgekd.recipe import Data, Export, Recipe, recipe_from
from edgekd.watching import Silent, Watch


def export_network(
    network: Artifact,
    out: Path,
    options: Export,
    data: Data | None = None,
    watch: Watch | None = None,
    to: str = "onnx",
    device: str = "local",
    *,
    explain: bool = False,
) -> Artifact:
    """Write the network as ``to`` and prove on validation images what it is and what it loses.

    Args:
        network: of kind ``network``.
        out: folder of the exported artifact.
        options: what the file looks like; with precision ``auto`` the device decides.
        data: whose images to prove it on; ``None`` takes what the network was trained on.
        watch: told the stages.
        to: name of a format.
        device: what it is written for.
        explain: look for where the error begins even if nothing is refused.

    Raises:
        GateError: the exported file is not the network, or loses too much.
        DataError: the images are not those of the network's classes, or too few.
    """
    watch = watch or Silent()
    if options.precision == "auto" or to == "tensorrt":
        check_reachable(device)
    data = data or recipe_of(network).data
    with claim(out, "export"):
        check_apart(out, data.source)
        splits = open_splits(data)
        check_labels(splits, network.manifest["labels"], str(network.path))
        watch.progress("export", 0, 1, out.name)
        job = Exporting(network, options, data, splits, target_of(device, to), to, explain, watch)
        write = export_fastest if options.precision == "auto" else export_repaired
        made = write(job, out, options)
        watch.progress("export", 1, 1, out.name)
    return made


def already_exported(
    network: Artifact, out: Path, options: Export, device: str = "local"
) -> Artifact | None:
    """What ``out`` holds, if it is this very network as ``options`` say; else ``None``."""
    try:
        found = Artifact.open(out)
    except ArtifactError:  # none, or a damaged one: it is made again
        return None
    made: Mapping[str, Any] = found.manifest.get("export") or {}
    parents = [(found.manifest.get("parent") or {}).get("sha256"), made.get("tuned_from")]
    asked = json.loads(json.dumps(asdict(options)))
    same = made.get("asked") == asked and nickname(str(made.get("device"))) == nickname(device)
    if not same or network.sha256 not in parents:
        return None
    write_card(out)  # which a kill may have kept from being written
    return found


def recipe_of(artifact: Artifact) -> Recipe:
    """The recipe an artifact was made with.

    Raises:
        ArtifactError: its manifest has none.
    """
    table = artifact.manifest.get("recipe")
    if table is None:
        raise ArtifactError(
            f"the manifest of {artifact.path} has no recipe, which says what data it is of. Make "
            "the artifact again."
        )
    return recipe_from(table)
