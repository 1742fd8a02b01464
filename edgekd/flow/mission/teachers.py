"""Teachers: whether a teacher can be the measure of what a student loses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekd.artifact import Artifact, is_artifact
from edgekd.budget import Ruling
from edgekd.errors import ArtifactError, GateError
from edgekd.flow import gates
from edgekd.flow.job import Job
from edgekd.flow.training import LABELS, comes_trained
from edgekd.hiding import shown
from edgekd.intervals import wilson
from edgekd.loading import Splits
from edgekd.models import build
from edgekd.recipe import Recipe
from edgekd.watching import Silent

SPLITTING = ("source", "limit", "validation", "test")
"""What decides in ``data`` which images a network was trained on."""


def check_same(recipe: Recipe, splits: Splits, out: Path) -> None:
    """Refuse a folder with another teacher in it, before anything else in there is changed.

    Raises:
        UsageError: as training it would.
    """
    if not is_artifact(out):
        return
    job = Job("teacher", recipe.teacher, recipe.teach, LABELS, recipe, out, Silent(), False)
    there = build(recipe.teacher, splits.labels) if comes_trained(recipe.teacher) else None
    job.finished(job.known(there, splits))


def check_knowing(teacher: Artifact, splits: Splits) -> str:
    """Judge a teacher by itself, before any student is: a teacher at chance is no student's fault.

    Returns:
        A sentence where it knows little; else nothing.

    Raises:
        GateError: it knows hardly more than the most frequent class.
    """
    found = teacher.manifest["metrics"].get("validation") or {}
    if found.get("n") != len(splits.validation):
        return ""
    name = teacher.manifest["model"]["name"]
    try:
        right = round(found["top1"] * found["n"])
        return gates.check_knowing(name, right, splits.validation.targets)
    except GateError as error:
        raise error.told(f"{error.bare} No student was tried.") from error


def taught_on_others(recipe: Recipe) -> str:
    """A sentence where a teacher's own recipe says other images than this one; else nothing."""
    try:
        made = Artifact.open(Path(recipe.teacher.weights)) if recipe.teacher.weights else None
    except ArtifactError:
        return ""
    theirs = shown(((made.manifest.get("recipe") or {}) if made else {}).get("data") or {})
    ours = recipe.to_dict()["data"]
    apart = [name for name in SPLITTING if name in theirs and _differ(name, theirs, ours)]
    if not apart:
        return ""
    words = ", ".join(
        f"data.{name} {_word(theirs[name])} there, {_word(ours[name])}" for name in apart
    )
    return (
        f"the teacher was trained on other images than these ({words} here): it may know the "
        "validation images, and a top1_drop against it is then too large. Give the same --data "
        "and --limit as its training"
    )


def suspicion(teacher: Artifact) -> str:
    """A sentence where a teacher is better on validation than on test images, beyond chance.

    Newcombe's interval of a difference of two shares (Statistics in Medicine 17, 1998, method 10),
    of 99 %.
    """
    found = teacher.manifest["metrics"]
    seen, new = (_share(found.get(name)) for name in ("validation", "test"))
    if seen is None or new is None:
        return ""
    difference = seen.value - new.value
    if difference <= math.hypot(seen.value - seen.lo, new.hi - new.value):
        return ""
    return (
        f"the teacher is right on {seen.value:.1%} of the validation images and on {new.value:.1%} "
        "of the test images, more than chance makes it: it seems to have learned some of those it "
        "is compared on, and a top1_drop against it is too large"
    )


def excused(ruling: Ruling, why: str) -> Ruling:
    """A ruling against a teacher that knows the images: what does not hold is not decided."""
    if not why or ruling.clause.metric != "top1_drop" or ruling.state not in ("fails", "open"):
        return ruling
    return replace(ruling, state="open", figure=replace(ruling.figure, why=why))


def _share(scores: Mapping[str, Any] | None) -> Any:
    if not scores or not scores.get("n"):
        return None
    return wilson(round(scores["top1"] * scores["n"]), scores["n"], 0.99)


def _differ(name: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Folders of one name are taken to be the same: they may have moved."""
    if name == "source":
        return Path(str(theirs[name])).name != Path(str(ours[name])).name
    return bool(theirs[name] != ours[name])


def _word(value: Any) -> str:
    """Of a folder its name: nobody is told where it is."""
    return Path(value).name if isinstance(value, str) else f"{value:g}"
