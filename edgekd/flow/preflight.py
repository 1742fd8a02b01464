"""Preflight: refuse what cannot work before hours are spent on the stages before it."""

from __future__ import annotations

from pathlib import Path

import torch

from edgekd import artifact, report
from edgekd.errors import UsageError
from edgekd.export import check_enough, check_opset
from edgekd.files import check_folder, contents
from edgekd.flow import gates
from edgekd.flow.choosing import check_peer, check_table, method_of
from edgekd.flow.targeting import check_reachable, target_of
from edgekd.loading import Splits, check_apart, open_splits
from edgekd.models import build
from edgekd.recipe import Recipe
from edgekd.schema import MANIFEST, RUN
from edgekd.trainer import check
from edgekd.watching import Silent

RECIPE, SUMMARY = "recipe.toml", "run.json"
FOLDERS = ("teacher", "student", "baseline", "teacher-onnx", "student-onnx")
"""Of a run's, which each become an artifact."""


def _check_export(recipe: Recipe, splits: Splits) -> None:
    """What an export would refuse, but for the network itself."""
    options, device = recipe.export, recipe.profile.device
    check_reachable(device)  # the last stage measures there
    target = target_of(device)
    check_opset(options.opset or target.opset, target.opsets, target.name)
    if options.precision in ("fp16", "int8"):
        images = min(len(splits.validation), max(options.judged, options.samples))
        check_enough(images, options.max_drop)


def check_stages(recipe: Recipe, out: Path) -> Splits:
    """Refuse what no student could change: names, options, the folder, the device, the images.

    Returns:
        The images.

    Raises:
        UsageError: as :func:`check_run`.
    """
    check_folder(out)
    report.check_place(out)
    _check_recipe(recipe, out)
    RUN.check_place(out / SUMMARY)
    for name in FOLDERS:
        MANIFEST.check_place(out / name / artifact.MANIFEST)
    check_table(recipe.method)
    if check_peer(recipe):
        raise UsageError("edgekd run teaches a teacher first; beside a peer: edgekd distill --peer")
    check(recipe.teach, "teach")
    check(recipe.train, "train")
    check_apart(out, recipe.data.source)
    splits = open_splits(recipe.data)
    _check_export(recipe, splits)
    return splits


def _check_recipe(recipe: Recipe, out: Path) -> None:
    """Refuse to replace a recipe that somebody wrote: a run writes no comments into its own."""
    file = out / RECIPE
    try:
        there = contents(file).decode("utf-8", "replace")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is no run's recipe: {error}. Choose another --output.") from error
    own = any(line.lstrip().startswith("#") for line in there.splitlines())
    if own or (there != recipe.to_toml() and not (out / SUMMARY).exists()):
        raise UsageError(
            f"{file} was not written by a run, and this one would replace it with its own. Choose "
            "another --output, or move it away; it can be given where it is."
        )


def check_run(recipe: Recipe, out: Path) -> None:
    """Refuse a whole run for what only its last stages would have refused.

    Raises:
        UsageError: a name there is not, an option a method does not take, weights that do not fit,
            student and teacher swapped, a folder that cannot be written.
    """
    splits, size = check_stages(recipe, out), recipe.data.size
    labels = splits.labels
    student = build(recipe.student, labels, size, new_head=True)
    teacher = build(recipe.teacher, labels, 0 if recipe.teacher.weights else size)
    gates.check_sizes(teacher, student)
    method_of(
        recipe.method, student, teacher, None, torch.from_numpy(splits.train.targets), Silent()
    )
