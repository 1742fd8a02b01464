"""Fitting: whether a manifest says of its model file what that says itself and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekd.agent.failures import AgentError
from edgekd.agent.runtimes import Session, TensorSpec, load
from edgekd.artifact import MODEL_FILES, Artifact
from edgekd.errors import ArtifactError
from edgekd.structure import cut

LAYOUTS = {"uint8": "NHWC", "float32": "NCHW"}
"""dtype -> layout, of the inputs that edgekd exports and a deployed folder can feed."""


def check_fit(artifact: Artifact, taken: Mapping[str, Any]) -> None:
    """Open the ONNX file and run it once, on a black picture made as a deployed folder makes it.

    An engine is run by its own GPU alone; what is run here is the ONNX file beside it.

    Args:
        artifact: of kind ``onnx`` or ``tensorrt``.
        taken: how its model takes pictures, as ``config.json`` will say.

    Raises:
        ArtifactError: the file cannot be opened or run; it takes other pictures than the manifest
            says, or tells another number of classes apart.
    """
    file, labels = artifact.path / MODEL_FILES["onnx"], artifact.manifest["labels"]
    if file.name not in artifact.manifest["files"]:
        return
    runtime = load("ort")
    try:
        session = runtime.open(runtime.prepare(file, {}), {"threads": 1})
        answers = _run(artifact, session, taken)
    except AgentError as error:
        raise ArtifactError(str(error)) from error
    if answers.shape != (1, len(labels)):
        raise _unfit(
            artifact, f"{len(labels)} labels", f"answers one picture with {answers.shape} numbers"
        )


def _run(artifact: Artifact, session: Session, taken: Mapping[str, Any]) -> Any:
    """Its first output for one picture."""
    (height, width), dtype, layout = taken["size"], taken["dtype"], taken["layout"]
    if LAYOUTS.get(dtype) != layout:
        known = " or ".join(" ".join(pair) for pair in LAYOUTS.items())
        raise _unfit(artifact, f"its input is {cut(f'{dtype} {layout}')!r}", f"can be {known} only")
    shape = (1, height, width, 3) if layout == "NHWC" else (1, 3, height, width)
    found = [(spec.dtype, len(spec.shape)) for spec in session.inputs]
    if found != [(dtype, len(shape))] or any(
        there not in (None, side)
        for there, side in zip(session.inputs[0].shape, shape, strict=True)
    ):
        said = TensorSpec("pictures", dtype, shape)
        raise _unfit(artifact, str(said), f"takes {', '.join(map(str, session.inputs))}")
    return next(iter(session.run({session.inputs[0].name: np.zeros(shape, dtype)}).values()))


def _unfit(artifact: Artifact, said: str, found: str) -> ArtifactError:
    return ArtifactError(
        f"the manifest of {artifact.path} does not fit its model: it says {said}, and the model "
        f"{found}. Export the network again."
    )
