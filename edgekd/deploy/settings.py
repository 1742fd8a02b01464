"""Settings: ``config.json``, all that the programs of a deployed folder are told."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from edgekd.agent.failures import AgentError
from edgekd.agent.feeds import Normalise
from edgekd.artifact import MODEL_FILES, Artifact
from edgekd.cards.reading import at
from edgekd.deploy.measured import VERSION, Measured
from edgekd.errors import ArtifactError
from edgekd.structure import cut

KIND = "edgekd deploy"
SCHEMA_VERSION = 1
NAME = "config.json"
LABELS = "labels.txt"
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")
AS_BICUBIC = ("box", "hamming", "nearest-exact", "random")
"""What timm and torchvision know besides; edgekd resizes for these as for bicubic."""
CPU = "CPUExecutionProvider"


def settings(artifact: Artifact, measured: Measured | None) -> dict[str, Any]:
    """The content of ``config.json``.

    Raises:
        ArtifactError: the manifest does not say how the model takes its input.
    """
    manifest = artifact.manifest
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "model": MODEL_FILES[manifest["kind"]],
        "labels": LABELS,
        "input": _input(artifact),
        "runtime": _runtime(manifest, measured),
    }


def _input(artifact: Artifact) -> dict[str, Any]:
    """Mean and deviation are in it only where the file does not normalise by itself."""
    try:
        section = artifact.manifest["input"]
        artifact.manifest["model"]["name"], artifact.manifest["labels"]  # which the texts name
        dtype, filter_name = str(section["dtype"]), str(section["interpolation"])
        height, width = map(int, section["size"])
        share = float(section["crop_pct"])
        if filter_name not in (*FILTERS, *AS_BICUBIC):
            known = ", ".join(FILTERS)
            raise ValueError(f"interpolation is {cut(filter_name)!r}, expected one of {known}")
        if not 0.01 <= share <= 100:
            raise ValueError(f"crop_pct is {share:g}, expected 0.01 to 100")
        taken = {
            "dtype": dtype,
            "layout": str(section["layout"]),
            "size": [height, width],
            "interpolation": filter_name if filter_name in FILTERS else "bicubic",
            "crop_pct": share,
            "pillow": version("pillow"),  # which prepared the images; releases differ
        }
        if dtype == "uint8":
            return taken
        normalise = Normalise.from_table(section)
        return taken | {"mean": list(normalise.mean), "std": list(normalise.std)}
    except (KeyError, TypeError, ValueError, OverflowError, AgentError) as error:
        raise ArtifactError(
            f"the manifest of {artifact.path} does not say how its model takes pictures: {error}. "
            "Export the network again."
        ) from error


def _runtime(manifest: Mapping[str, Any], measured: Measured | None) -> dict[str, Any]:
    """As it was measured; unmeasured, as its export was proved, with the runtime's own threads."""
    key = at(manifest, "export", "engine", "key") or {}
    if measured is not None:
        name, release = measured.runtime, measured.version
    elif manifest["kind"] == "tensorrt":
        name, release = "tensorrt", str(at(key, "tensorrt") or "")
    else:
        proved = at(manifest, "export", "exporter_versions", "onnxruntime")
        name, release = "onnxruntime", str(proved or "")
    if release and not VERSION.fullmatch(release):  # it becomes a line for pip
        raise ArtifactError(
            f"the manifest says that it was exported with {name} {cut(release)!r}, which is no "
            "version. Export the network again."
        )
    table: dict[str, Any] = {
        "name": name,
        "version": release,
        "provider": CPU if measured is None else measured.provider,
        "threads": None if measured is None else measured.threads,
        "spinning": False if measured is None else measured.spinning,
        "affinity": [] if measured is None else list(measured.affinity),
    }
    if name == "tensorrt":
        table |= {"provider": "TensorRT", "gpu": at(key, "name")}
    return table
