"""The baseline: the same student without a teacher, and what distilling gained over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.artifact import Artifact
from edgekd.errors import ArtifactError, reason
from edgekd.files import read_json
from edgekd.flow.choosing import check_peer
from edgekd.flow.gates import equal_cost_epochs, gain
from edgekd.flow.training import teacher_of, train_alone
from edgekd.models import from_artifact
from edgekd.recipe import Recipe
from edgekd.structure import mismatch
from edgekd.watching import Watch

CLASSES = {"type": "array", "items": {"type": "integer", "minimum": 0}}
ANSWERS: dict[str, Any] = {
    "type": "object",
    "required": ["predictions", "targets"],
    "properties": {"predictions": CLASSES, "targets": CLASSES},
}


def compare_alone(
    recipe: Recipe,
    student: Artifact,
    out: Path,
    baseline: str,
    watch: Watch,
    *,
    restart: bool = False,
) -> tuple[Artifact, dict[str, Any]]:
    """Train the student of ``recipe`` alone, and pair its answers with the distilled one's.

    Args:
        recipe: what the student was distilled with.
        student: the distilled one.
        out: folder of the baseline's artifact.
        baseline: ``cost`` trains it for as much computing as distilling took, ``epochs`` for as
            many epochs.
        watch: told the decision and the progress.
        restart: throw away what ``out`` holds.

    Returns:
        The baseline, and the ``gain`` section of ``run.json``.
    """
    epochs = recipe.train.epochs
    if baseline == "cost":
        epochs = equal_cost_epochs(epochs, *_cost(recipe, student))
        watch.say(
            f"the baseline trains {epochs} epochs alone, as much computing in the networks as "
            f"{recipe.train.epochs} epochs of distilling (adapters and studying do not count)"
        )
    alone = train_alone(recipe, out, epochs, watch, restart=restart)
    return alone, gain(_correct(student), _correct(alone), epochs, baseline)


def _cost(recipe: Recipe, student: Artifact) -> tuple[int, int]:
    """Multiply-accumulates of one image, forward, of the student and of all beside it.

    A peer is trained, which costs as much as three forward passes.
    """
    own = from_artifact(student).macs()
    if check_peer(recipe):
        return own, 3 * from_artifact(Artifact.open(student.path / "peer")).macs()
    return own, teacher_of(recipe, student.manifest["labels"]).macs()


def answers(artifact: Artifact) -> dict[str, Any]:
    """The classes a network chose for each test image, beside the true ones.

    Raises:
        ArtifactError: they are not there, or no such table.
    """
    file = artifact.path / "answers.json"
    try:
        found: dict[str, Any] = read_json(file)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{file} cannot be read: {reason(error)}. Make the artifact again."
        ) from error
    wrong = mismatch(found, ANSWERS)
    if not wrong and len(found["predictions"]) != len(found["targets"]):
        wrong = f"{len(found['predictions'])} predictions of {len(found['targets'])} targets"
    if wrong:
        raise ArtifactError(f"{file} is not whole: {wrong}. Make the artifact again.")
    return found


def _correct(artifact: Artifact) -> NDArray[np.bool_]:
    found = answers(artifact)
    right: NDArray[np.bool_] = np.equal(found["predictions"], found["targets"])
    return right
