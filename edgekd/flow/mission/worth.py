"""Worth: what a file's answers say of accuracy, paired with the teacher's to the same images."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from edgekd.artifact import Artifact
from edgekd.budget import Budget, Figure
from edgekd.files import write_json
from edgekd.intervals import Interval, paired_difference, wilson
from edgekd.loading import Splits, eval_loader
from edgekd.models import from_artifact
from edgekd.recipe import Data
from edgekd.trainer import evaluate

ANSWERS = "answers-validation.json"


def confidence_of(number: int) -> float:
    """Of the interval that the n-th attempt is judged with.

    All are judged on the same validation images, and who tries again and again passes some time by
    luck: each may err half as often as the one before, which is 5 % for all together (Bonferroni).
    """
    return 1 - 0.1 / 2.0**number


def figures(
    said: Sequence[int], targets: Sequence[int], teacher: Sequence[int], confidence: float = 0.95
) -> dict[str, Figure]:
    """``top1`` and ``top1_drop`` as shares, with intervals; the drop is teacher minus student."""
    found = {"top1": _top1(said, targets, confidence)}
    found["top1_drop"] = _drop(said, targets, teacher, confidence)
    return {name: Figure(i.value, i.lo, i.hi) for name, i in found.items()}


def summary(
    said: Sequence[int], targets: Sequence[int], teacher: Sequence[int], confidence: float
) -> dict[str, Any]:
    """The same for JSON: how right the file is, and its difference to the teacher."""
    drop, top1 = _drop(said, targets, teacher, confidence), _top1(said, targets, confidence)
    return {
        "n": len(said),
        "top1": top1.value,
        "interval": [top1.lo, top1.hi],
        "teacher": sum(t == y for t, y in zip(teacher, targets, strict=True)) / len(targets),
        "delta": -drop.value,
        "delta_interval": [-drop.hi, -drop.lo],
        "confidence": confidence,
    }


def teacher_answers(teacher: Artifact, splits: Splits, data: Data) -> list[int]:
    """The classes a teacher chooses for the validation images, at its own size; kept beside it."""
    file, targets = teacher.path / ANSWERS, splits.validation.targets.tolist()
    kept = _kept(file)
    if (kept.get("sha256"), kept.get("targets")) == (teacher.sha256, targets):
        return [int(value) for value in kept["predictions"]]
    network = from_artifact(teacher)
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = evaluate(
        network.model, eval_loader(splits.validation, network.preprocess, data), place
    ).predictions.tolist()
    table = {"split": "validation", "sha256": teacher.sha256}
    write_json(file, {**table, "predictions": found, "targets": targets})
    return [int(value) for value in found]


def images_needed(drop: float, images: int) -> int:
    """How many images could show a drop of at most so much if every answer were the teacher's.

    Returns:
        0 where there are enough.
    """
    most = paired_difference(0, 0, images).hi
    if most <= drop or not drop:
        return 0
    odds = most / (1 - most)  # in proportion to 1 / n
    return math.ceil(images * odds * (1 - drop) / drop)


def check_shown(budget: Budget, images: int) -> str:
    """A warning where there are so few validation images that only luck could show the accuracy."""
    for clause in budget.worth:
        if clause.metric == "top1_drop" and not clause.bound:
            return (
                f"no number of validation images can show {clause.text} where every answer is the "
                "teacher's: only a student that is better than its teacher by more than the "
                "interval can be shown to hold"
            )
        needed = images_needed(clause.bound, images) if clause.metric == "top1_drop" else 0
        if needed:
            return (
                f"{images} validation images cannot show {clause.text} even where every answer is "
                f"the teacher's: it takes {needed}; only a student that is better than its teacher "
                "can be shown to hold"
            )
    return ""


def _top1(said: Sequence[int], targets: Sequence[int], confidence: float) -> Interval:
    right = sum(s == y for s, y in zip(said, targets, strict=True))
    return wilson(right, len(targets), confidence)


def _drop(
    said: Sequence[int], targets: Sequence[int], teacher: Sequence[int], confidence: float
) -> Interval:
    rows = list(zip(said, teacher, targets, strict=True))
    lost = sum(s != y == t for s, t, y in rows)
    won = sum(s == y != t for s, t, y in rows)
    return paired_difference(lost, won, len(rows), confidence)


def _kept(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
