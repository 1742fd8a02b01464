"""Retuning: a short training that teaches a network to bear the rounding of int8."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from edgekd.artifact import Artifact, is_artifact, read_manifest
from edgekd.errors import ArtifactError, UsageError
from edgekd.files import write_json
from edgekd.flow.choosing import is_auto
from edgekd.flow.job import STATE, Job
from edgekd.flow.training import carry_out, comes_trained
from edgekd.formula import parse_method
from edgekd.loading import Splits, check_labels, open_splits
from edgekd.methods import Method
from edgekd.models import Backbone, build, from_artifact
from edgekd.recipe import Data, Export, Network, Recipe, Train, recipe_from
from edgekd.trainer import checkpoint
from edgekd.watching import Silent, Watch

MARK = "training/tuning.json"
"""Says that what lies in a folder came of a tuning, finished or not."""
SCHEMES = {
    "vnni": "int8",
    "arm64": "int8",
    "avx2": "int8-reduced",
    "tensorrt": "int8-symmetric",
    "tensorrt8": "int8-symmetric",
}
"""How a target's flavour of int8 rounds, see :data:`edgekd.models.quantised.SCHEMES`."""
SELF = "ce + kd"
"""The method where the network as it was is the teacher."""
RATE = 0.05
"""Share of the learning rate the network was trained with: it is to move a little, not to learn."""
SHARE = 0.1
"""Share of the epochs."""


@dataclass(frozen=True)
class _Lesson:
    """Who teaches, and how."""

    teacher: Backbone
    where: Network
    table: Mapping[str, Any]


def retuned(
    network: Artifact,
    out: Path,
    options: Export,
    flavour: str,
    watch: Watch | None = None,
    data: Data | None = None,
) -> Artifact:
    """Train a finished network a little more, with int8's rounding and under its teacher.

    It goes on from its own weights, on the data and with the method of its own recipe. The teacher
    is the one it learned from; where that is gone, was replaced, or never was, the network as it
    was teaches itself. Nobody is trained beside it, also where it had a peer.

    Args:
        network: of kind ``network``, in float.
        out: folder of the tuned network's artifact, whose weights and scores are in float, too;
            an unfinished tuning in it is gone on with, another one's leavings are deleted;
            whatever else is in it is refused.
        options: ``repair_epochs`` says how long; 0 takes a tenth of what the network took.
        flavour: of int8, see :class:`edgekd.targets.Target`.
        watch: told who teaches, and how far it is.
        data: in place of the recipe's, such as when its images have moved.

    Raises:
        GateError: the teacher is near chance.
        DataError: the data of the recipe has other classes by now.
        DivergedError: a loss is no longer finite.
    """
    watch, recipe = watch or Silent(), recipe_from(network.manifest.get("recipe") or {})
    recipe = replace(recipe, data=data or recipe.data)
    splits = open_splits(recipe.data)
    check_labels(splits, network.manifest["labels"], str(network.path))
    lesson = _lesson(network, recipe, watch)
    train = _train(network, recipe, options, SCHEMES[flavour])
    own = Network("", str(network.path))
    recipe = replace(
        recipe,
        student=own,
        teacher=lesson.where,
        peer=Network(""),
        method=lesson.table,
        train=train,
    )
    start, facts = from_artifact(network), {"tuned_from": network.sha256}
    role = str(network.manifest["role"])
    given = role, own, train, lesson.table, recipe, out, watch
    job = Job(*given, restart=False, start=start, stage="tune", facts=facts)
    _check_place(out, network, lesson.where)
    if _holds_another(job, lesson.teacher, splits):
        watch.say(f"what another tuning left in {out} is thrown away")
        job = replace(job, restart=True)
    write_json(out / MARK, {"tuned_from": network.sha256})
    length = f"{train.epochs} epoch{'s' if train.epochs > 1 else ''}"
    watch.say(
        f"{start.name} is tuned for {train.quantise}: {length} at a learning rate of "
        f"{train.lr:g}, taught by {lesson.teacher.name}"
    )
    return carry_out(job, lesson.teacher, splits)


def _train(network: Artifact, recipe: Recipe, options: Export, scheme: str) -> Train:
    """How long and how fast."""
    asked = recipe.teach if network.manifest["role"] == "teacher" else recipe.train
    return replace(
        asked,
        quantise=scheme,
        epochs=options.repair_epochs or max(1, round(SHARE * asked.epochs)),
        lr=RATE * asked.lr,
        schedule="cosine",
        clip=asked.clip or 1.0,  # channels that differ much in size are hurt most by int8, and here
        warmup_epochs=0.0,  # it begins where it ended, and lower
        ema=0.0,  # an average over so few steps would be the network as it was
        precision="fp32",
        compile=False,  # no graph holds the rounding
    )


def _lesson(network: Artifact, recipe: Recipe, watch: Watch) -> _Lesson:
    """Its own teacher and method; or itself, and the reason is said."""
    table, parent = recipe.method, network.manifest.get("parent")
    reason = "it learned without a teacher"
    if parent and (is_auto(table) or Method.from_table(table).uses_teacher):
        for where in _places(network, recipe):
            try:
                found = build(where, network.manifest["labels"])
            except (UsageError, ArtifactError) as error:
                reason = str(error).partition(". ")[0].removesuffix(".")
                continue
            if (found.name, found.parent) == (parent["name"], parent["sha256"]):
                return _Lesson(found, where, _at_the_end(table))
            reason = f"{where.weights or where.name} is not the teacher it learned from any more"
        if not any(_places(network, recipe)):
            reason = "the recipe does not say where its teacher is"
    name = network.manifest["model"]["name"]
    watch.say(f"{name} is its own teacher, as it is in float: {reason}")
    own = Network("", str(network.path))
    return _Lesson(from_artifact(network), own, parse_method(SELF))


def _places(network: Artifact, recipe: Recipe) -> Iterator[Network]:
    """Where its teacher may be: as the recipe says, or beside it in a run folder that was moved."""
    if comes_trained(recipe.teacher):
        yield recipe.teacher
    beside = network.path.parent / "teacher"
    if is_artifact(beside) and recipe.teacher.weights != str(beside):
        yield Network("", str(beside))


def _at_the_end(table: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A method whose ramps are over."""
    ends = {n: t["weight"][-1] for n, t in table.items() if isinstance(t["weight"], list)}
    return {n: {**t, "weight": ends.get(n, t["weight"])} for n, t in table.items()}


def _check_place(out: Path, network: Artifact, teacher: Network) -> None:
    """Refuse a folder that holds anything but tunings: what is in it may be thrown away.

    Raises:
        UsageError: it is the network's own, its teacher's, or another training's.
    """
    here, *others = (
        os.path.realpath(each) for each in (str(out), str(network.path), teacher.weights)
    )
    if here in others:
        held = "the network that is exported" if here == others[0] else "its teacher"
    elif is_artifact(out) and not _is_tuning(read_manifest(out)):
        held = "a network that no tuning made"
    elif (out / STATE[0]).is_file() and not (out / MARK).is_file():
        held = "an unfinished training that is no tuning"
    else:
        return
    raise UsageError(
        f"the network tuned for int8 would be kept in {out}, which holds {held}. Choose another "
        "--output, or do without tuning: --repair post."
    )


def _is_tuning(manifest: Mapping[str, Any]) -> bool:
    return manifest["kind"] == "network" and "tuned_from" in (manifest.get("training") or {})


def _holds_another(job: Job, teacher: Backbone, splits: Splits) -> bool:
    """Whether the folder has the result or the state of a tuning that is not this one."""
    known = job.known(teacher, splits)
    try:
        if is_artifact(job.out):
            return Artifact.open(job.out).manifest.get("fingerprint") != known
        with torch.random.fork_rng():
            checkpoint.load(job.out / STATE[0], known)
    except (UsageError, ArtifactError):
        return True
    return False
