"""Worth: what a file's answers say of accuracy, paired with the teacher's to the same images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.artifact import Artifact
from edgekd.budget import Budget, Clause, Figure, rule
from edgekd.files import read_json, write_json
from edgekd.intervals import Interval, paired_difference, wilson
from edgekd.loading import Splits, eval_loader
from edgekd.models import from_artifact
from edgekd.recipe import Data
from edgekd.trainer import evaluate
from edgekd.trainer.collective import device

ANSWERS = "answers-validation.json"
LUCK = {
    "top1": ("right", "no student can be shown to hold"),
    "top1_drop": (
        "the teacher's",
        "only a student that is better than its teacher by more than the interval can be shown to "
        "hold",
    ),
}
"""Of each metric, answers that leave nothing to be wished, and who can be shown to hold where not
even they are enough."""


def confidence_of(number: int) -> float:
    """Of the interval that the n-th attempt is judged with.

    All are judged on the same validation images, and who tries again and again passes some time by
    luck: each may err half as often as the one before, which is 5 % for all together (Bonferroni).
    """
    return 1 - 0.1 / 2.0**number


@dataclass(frozen=True)
class Tally:
    """Answers to the same images, counted: all that an accuracy and its interval are made from."""

    n: int
    right: int
    """Of a file."""
    teacher: int
    """The teacher's right ones."""
    lost: int
    """Images that the teacher alone is right on."""
    won: int
    """Images that the file alone is right on."""


def tally(said: Sequence[int], targets: Sequence[int], teacher: Sequence[int]) -> Tally:
    """Count a file's and its teacher's answers; classes, in the order of the images."""
    rows = list(zip(said, teacher, targets, strict=True))
    return Tally(
        len(rows),
        sum(s == y for s, _, y in rows),
        sum(t == y for _, t, y in rows),
        sum(s != y == t for s, t, y in rows),
        sum(s == y != t for s, t, y in rows),
    )


def tally_of(summary: Mapping[str, Any]) -> Tally:
    """The counts behind what :func:`summary` says."""
    n = summary["n"]
    right, teacher = (round(summary[name] * n) for name in ("top1", "teacher"))
    return Tally(n, right, teacher, summary["lost"], summary["won"])


def figures(found: Tally, confidence: float = 0.95) -> dict[str, Figure]:
    """``top1`` and ``top1_drop`` as shares, with intervals; the drop is teacher minus student."""
    both = {"top1": _top1(found, confidence), "top1_drop": _drop(found, confidence)}
    return {name: Figure(i.value, i.lo, i.hi) for name, i in both.items()}


def summary(found: Tally, confidence: float) -> dict[str, Any]:
    """The same for JSON: how right the file is, and its difference to the teacher."""
    drop, top1 = _drop(found, confidence), _top1(found, confidence)
    return {
        "n": found.n,
        "top1": top1.value,
        "interval": [top1.lo, top1.hi],
        "teacher": found.teacher / found.n,
        "delta": -drop.value,
        "delta_interval": [-drop.hi, -drop.lo],
        "lost": found.lost,
        "won": found.won,
        "confidence": confidence,
    }


def teacher_answers(teacher: Artifact, splits: Splits, data: Data) -> list[int]:
    """The classes a teacher chooses for the validation images, at its own size; kept beside it."""
    file, targets = teacher.path / ANSWERS, splits.validation.targets.tolist()
    kept = _kept(file)
    if (kept.get("sha256"), kept.get("targets")) == (teacher.sha256, targets):
        return [int(value) for value in kept["predictions"]]
    network = from_artifact(teacher)
    place = device()
    shown = eval_loader(splits.validation, network.preprocess, data, device=place)
    found = evaluate(network.model, shown, place).predictions.tolist()
    table = {"split": "validation", "sha256": teacher.sha256}
    write_json(file, {**table, "predictions": found, "targets": targets})
    return [int(value) for value in found]


def could_hold(clause: Clause, judged: Mapping[str, Any]) -> bool:
    """Whether a first attempt could be shown to keep a bound if it were right on every image.

    Args:
        clause: on accuracy.
        judged: what :func:`summary` says of anyone, of the same images and the same teacher.
    """
    n, teacher = judged["n"], round(judged["teacher"] * judged["n"])
    best = figures(Tally(n, n, teacher, 0, n - teacher))
    return rule(clause, best[clause.metric]).state == "holds"


def room_of(clause: Clause) -> float:
    """The share of the images that may be wrong: of all, or of those the teacher is right on."""
    return clause.bound if clause.metric == "top1_drop" else 1 - clause.bound


def images_needed(drop: float, images: int, confidence: float = 0.95) -> int:
    """How many images could show a drop of at most so much if every answer were the teacher's.

    As many show a top-1 of at least ``1 - drop`` if every answer is right: of n equal answers
    Wilson's interval and Tango's say the same.

    Returns:
        0 where there are enough.
    """
    most = paired_difference(0, 0, images, confidence).hi
    if most <= drop or not drop:
        return 0
    odds = most / (1 - most)  # in proportion to 1 / n
    return math.ceil(images * odds * (1 - drop) / drop)


def check_shown(budget: Budget, images: int, attempts: int) -> str:
    """A warning where there are so few validation images that only luck could show the accuracy.

    Args:
        budget: a bound on accuracy takes images.
        images: for validation.
        attempts: there may be so many, and each is judged with a wider interval than the last.
    """
    found = []
    for clause in budget.worth:
        room, (perfect, better) = room_of(clause), LUCK[clause.metric]
        if not room:
            cannot = f"no number of validation images can show {clause.text}"
            found.append(f"{cannot} where every answer is {perfect}: {better}")
            continue
        levels = [confidence_of(number + 1) for number in range(attempts)]
        needs = [images_needed(room, images, level) for level in levels]
        if any(needs):
            found.append(_too_few(clause, images, needs))
    return "; and ".join(found)


def _too_few(clause: Clause, images: int, needs: Sequence[int]) -> str:
    """Args: needs: images that each attempt would take, 0 where there are enough."""
    enough = sum(not needed for needed in needs)
    cannot = f"{images} validation images cannot show {clause.text}"
    perfect, better = LUCK[clause.metric]
    if not enough:
        more = f", and {max(needs)} for the last of {len(needs)} attempts" if len(needs) > 1 else ""
        same = f"even where every answer is {perfect}"
        return f"{cannot} {same}: it takes {needs[0]}{more}; {better}"
    return (
        f"{cannot} after attempt {enough} of {len(needs)}, even where every answer is "
        f"{perfect}, as each is judged with a wider interval than the one before: it takes "
        f"{needs[enough]} for the next and {max(needs)} for the last; there, {better}"
    )


def _top1(found: Tally, confidence: float) -> Interval:
    return wilson(found.right, found.n, confidence)


def _drop(found: Tally, confidence: float) -> Interval:
    return paired_difference(found.lost, found.won, found.n, confidence)


def _kept(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
