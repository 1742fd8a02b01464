"""Gates: what must hold before hours are spent, and the gain that is claimed afterwards."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import GateError, UsageError
from edgekd.intervals import paired_difference, wilson
from edgekd.models import Backbone
from edgekd.trainer import Scores

TELLING = 20
"""Images; fewer say nothing of a teacher."""
LEAST_WAY, LITTLE_WAY = 1 / 20, 1 / 5
"""From the most frequent class to perfection: less is refused, and less is warned of."""


def check_teacher(teacher: Backbone, scores: Scores) -> None:
    """Refuse a teacher that answers with infinities, or that :func:`check_knowing` refuses.

    Raises:
        GateError: with the accuracy found and the one expected.
    """
    check_answers(teacher, scores)
    check_knowing(teacher.name, int(scores.correct.sum()), scores.targets)


def check_knowing(teacher: str, right: int, targets: NDArray[np.int64]) -> str:
    """Refuse a teacher that knows hardly more than always naming the most frequent class.

    The 99.8 % Wilson interval of its accuracy must lie above the share of that class, and the
    accuracy at least a twentieth of the way from there to perfection. Fewer than 20 images tell
    nothing, and stop nobody.

    Args:
        teacher: its name.
        right: validation images that it is right on.
        targets: the classes of all of them.

    Returns:
        A sentence on one that passes and yet knows little, or of which nothing is known; else
        nothing.

    Raises:
        GateError: with the accuracy found and the one expected.
    """
    n = len(targets)
    chance, top1 = float(np.bincount(targets).max() / n), right / n
    way = (top1 - chance) / (1 - chance) if chance < 1 else 1.0
    found = (
        f"the teacher {teacher} is right on {top1:.1%} of {n} validation images; naming the most "
        f"frequent class is right on {chance:.1%}"
    )
    if n < TELLING:
        return f"{found}. So few images do not tell whether it knows anything"
    if wilson(right, n, confidence=0.998).lo <= chance or way < LEAST_WAY:
        raise GateError(
            f"{found}. Expected clearly more: a teacher at chance teaches noise. Train or "
            "fine-tune it with edgekd teach, or check that its classes are in the order of this "
            "data's."
        )
    return f"{found}. That is little to learn from" if way < LITTLE_WAY else ""


def check_answers(network: Backbone, scores: Scores) -> None:
    """Refuse a network whose answers are not even numbers.

    Raises:
        GateError: some logits are infinite or no numbers.
    """
    if not math.isfinite(scores.loss):
        raise GateError(
            f"{network.name} answers with infinities on {scores.n} images: its loss is "
            f"{scores.loss}. Check that its weights are whole, or train it at a lower rate."
        )


def check_sizes(teacher: Backbone, student: Backbone) -> None:
    """Refuse a student that costs more than its teacher.

    Raises:
        UsageError: they are most likely swapped.
    """
    theirs, ours = teacher.macs(), student.macs()
    if ours > theirs and student.parameters > teacher.parameters:
        raise UsageError(
            f"the student {student.name} ({student.parameters:,} parameters, {ours:,} MACs) is "
            f"larger than the teacher {teacher.name} ({teacher.parameters:,}, {theirs:,}). "
            "Are they swapped? Expected a smaller student."
        )


def equal_cost_epochs(epochs: int, student: int, beside: int) -> int:
    """Epochs the student alone can train for what distilling it costs.

    Args:
        epochs: of the distilling.
        student: its multiply-accumulates, forward; a training step costs about three times that.
        beside: those of all that runs beside it, a teacher's one forward pass for instance.
    """
    return max(1, round(epochs * (1 + beside / (3 * student))))


def gain(
    student: NDArray[np.bool_], baseline: NDArray[np.bool_], epochs: int, basis: str
) -> dict[str, Any]:
    """Paired difference of top-1 on the same images, student minus baseline, with its interval.

    The interval is over images: how much another draw of the test set would move it. How much
    another seed would is not in it.
    """
    better, worse = int((student & ~baseline).sum()), int((baseline & ~student).sum())
    found = paired_difference(better, worse, len(student))
    return {
        "metric": "top1",
        "delta": found.value,
        "interval": [found.lo, found.hi],
        "n": len(student),
        "baseline_epochs": epochs,
        "basis": basis,
    }
