"""Preflight: refuse what cannot work before hours are spent on the stages before it."""

from __future__ import annotations

from pathlib import Path

from edgekd import plugins
from edgekd.files import check_folder
from edgekd.flow import gates
from edgekd.loading import open_splits
from edgekd.methods import Method
from edgekd.models import build
from edgekd.recipe import Recipe
from edgekd.trainer import check


def check_run(recipe: Recipe, out: Path) -> None:
    """Refuse a whole run for what only its last stages would have refused.

    Raises:
        UsageError: a name there is not, an option a method does not take, weights that do not fit,
            student and teacher swapped, a folder that cannot be written.
    """
    check_folder(out)
    Method.from_table(recipe.method)
    check(recipe.teach, "teach")
    check(recipe.train, "train")
    plugins.load("device", recipe.profile.device)
    labels, size = open_splits(recipe.data).labels, recipe.data.size
    student = build(recipe.student, labels, size, new_head=True)
    teacher = build(recipe.teacher, labels, 0 if recipe.teacher.weights else size)
    gates.check_sizes(teacher, student)
