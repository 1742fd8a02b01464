"""Compare: several methods, and seeds, on one teacher and one student, side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

import edgekd
from edgekd import report
from edgekd.artifact import Artifact
from edgekd.errors import DivergedError, EdgeKDError, GateError, UsageError
from edgekd.files import check_folder, write_json
from edgekd.flow.choosing import is_auto
from edgekd.flow.compare_figures import Run, figures_of, right_of
from edgekd.flow.compare_refusals import check_methods, check_recipes
from edgekd.flow.compare_winner import looks_at, winner_of
from edgekd.flow.job import Job
from edgekd.flow.training import LABELS, Lesson, conclude, prepare, teacher_of
from edgekd.loading import Splits, open_splits
from edgekd.methods import Method
from edgekd.models import Backbone
from edgekd.recipe import Recipe
from edgekd.trainer import Together, Trained
from edgekd.watching import Silent, Watch

ALONE = "ce"
"""The student without a teacher, which gains are paired with."""
SUMMARY = "compare.json"
LONGEST = 80
"""Letters of a folder's name."""


@dataclass(frozen=True)
class Comparison:
    """What to compare, and where."""

    recipes: Mapping[str, Recipe]
    """By the text of its method; alike in all else. Their seed is the first one."""
    seeds: int
    """How many."""
    out: Path
    watch: Watch = field(default_factory=Silent)
    restart: bool = False
    command: str = "edgekd compare"

    @property
    def shared(self) -> Recipe:
        """What all have in common, and the method of one of them."""
        return next(iter(self.recipes.values()))


def compare(asked: Comparison) -> dict[str, Any]:
    """Train the student with every method and seed, and alone; write the figures and the report.

    All methods of a seed train in lockstep, and ask the teacher once a batch. Each student is bit
    for bit the one that ``distill`` makes with that method and seed. What is finished in the folder
    is taken as it is.

    Returns:
        What ``compare.json`` holds, with the report's paths under ``report``.

    Raises:
        GateError: the teacher is near chance.
        UsageError: a method that cannot work, twice the same one, a folder that holds something
            else: all before any training.
    """
    asked = replace(asked, recipes=_with_alone(asked.recipes))
    check_folder(asked.out)
    check_recipes(asked.recipes, asked.seeds)
    _check_folders(list(asked.recipes))
    splits = open_splits(asked.shared.data)
    for note in splits.notes:
        asked.watch.say(note)
    check_methods(asked.recipes, splits)
    runs: dict[str, list[Run]] = {text: [] for text in asked.recipes}
    places = [_places(asked, splits, number) for number in range(asked.seeds)]
    for place in places:
        for text, run in _train(asked, place, splits).items():
            runs[text].append(run)
    found = _summary(asked, splits, runs)
    write_json(asked.out / SUMMARY, found)
    paths = report.write(asked.out)
    return found | {"report": {kind: str(path) for kind, path in paths.items()}}


@dataclass(frozen=True)
class _Place:
    """One method and seed: its job, and what its folder holds of it already."""

    job: Job
    known: str
    finished: Artifact | None


def folder_of(text: str) -> str:
    """A folder's name for a method; other methods have other ones."""
    plain = text.lower().replace("(", ".of.").replace(")", ".")
    name = re.sub("[^a-z0-9._+-]", "", plain).strip(".")
    if len(name) > LONGEST:
        name = f"{name[:LONGEST]}-{sha256(name.encode()).hexdigest()[:8]}"
    return name


def _check_folders(texts: Sequence[str]) -> None:
    for one, two in combinations(texts, 2):
        if folder_of(one) == folder_of(two):
            raise UsageError(f"the methods {one!r} and {two!r} are the same. Leave one out.")


def _with_alone(recipes: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """The student alone comes first."""
    shared = next(iter(recipes.values()))
    return {ALONE: recipes.get(ALONE, replace(shared, method=LABELS)), **recipes}


def _places(asked: Comparison, splits: Splits, number: int) -> dict[str, _Place]:
    """The folders of one seed, and what is in them.

    Raises:
        UsageError: that is of another recipe.
    """
    teacher, found = teacher_of(asked.shared, splits.labels), {}
    for text, recipe in asked.recipes.items():
        job = _job(asked, text, recipe.train.seed + number)
        known = job.fingerprint(teacher, splits)
        found[text] = _Place(job, known, job.finished(known))
    return found


def _job(asked: Comparison, text: str, seed: int) -> Job:
    recipe = asked.recipes[text]
    recipe = replace(recipe, train=replace(recipe.train, seed=seed))
    return Job(
        "student",
        recipe.student,
        recipe.train,
        recipe.method,
        recipe,
        asked.out / folder_of(text) / f"seed-{seed}",
        asked.watch,
        asked.restart,
        stage=f"{text} (seed {seed})",
    )


def _train(asked: Comparison, places: Mapping[str, _Place], splits: Splits) -> dict[str, Run]:
    """All methods of one seed that are not finished yet, in lockstep."""
    left = {text: place for text, place in places.items() if place.finished is None}
    made: dict[str, Artifact | EdgeKDError] = {}
    if left:
        # a network that was tapped before would be slower each time
        made = _lockstep(list(left), left, teacher_of(asked.shared, splits.labels), splits)
    found = {}
    for text, place in places.items():
        seed, folder = place.job.train.seed, place.job.out.relative_to(asked.out).as_posix()
        result = place.finished or made[text]
        if isinstance(result, EdgeKDError):
            failed = _told(result, place.job)
            asked.watch.say(f"{text} (seed {seed}) is out: {failed}")
            found[text] = Run(seed, folder, None, failed)
        else:
            found[text] = Run(seed, folder, result)
    return found


def _lockstep(
    texts: Sequence[str], places: Mapping[str, _Place], teacher: Backbone, splits: Splits
) -> dict[str, Artifact | EdgeKDError]:
    first = prepare(places[texts[0]].job, teacher, splits, places[texts[0]].known)
    lessons = [first] + [
        prepare(places[text].job, teacher, splits, places[text].known, beside=first)
        for text in texts[1:]
    ]
    tells, watch = [lesson.job.tell for lesson in lessons], first.job.watch
    results = Together([lesson.task for lesson in lessons], tells, watch.say).run()
    return {
        text: result if isinstance(result, DivergedError) else _concluded(lesson, result)
        for text, lesson, result in zip(texts, lessons, results, strict=True)
    }


def _concluded(lesson: Lesson, trained: Trained) -> Artifact | GateError:
    """One that answers with infinities is out, as one that diverged is; the others go on."""
    try:
        return conclude(lesson, trained)
    except GateError as error:
        return error


def _told(error: EdgeKDError, job: Job) -> str:
    """Why a method is out; what a training by itself is told to do would throw the others away."""
    if not isinstance(error, DivergedError) or not error.advice:
        return str(error)
    clip = "" if job.train.clip else " or --set train.clip=1"
    return (
        f"{error.what} Leave the method out, or compare all of them in another --output with a "
        f"lower --lr (now {job.train.lr:g}){clip}."
    )


def _summary(
    asked: Comparison, splits: Splits, runs: Mapping[str, Sequence[Run]]
) -> dict[str, Any]:
    shared = asked.shared
    looking = {text for text, recipe in asked.recipes.items() if _looks(recipe)}
    methods, teacher_ms = figures_of(runs, ALONE, looking)
    seeds = [run.seed for run in runs[ALONE]]
    known = _job(asked, ALONE, 0).fingerprint(teacher_of(shared, splits.labels), splits)
    looks = looks_at(asked.out / SUMMARY, seeds, known)
    right = {text: right_of(several, "validation") for text, several in runs.items()}
    return {
        "kind": "compare",
        "schema_version": 1,
        "edgekd_version": edgekd.__version__,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": asked.command,
        "teacher": _teacher(runs),
        "student": shared.student.name or _name(runs),
        "data": {
            "source": shared.data.source,
            "classes": len(splits.labels),
            "images": len(splits.train),
            "validation": len(splits.validation),
            "test": len(splits.test),
            "augment": splits.augment,
        },
        "epochs": shared.train.epochs,
        "seeds": seeds,
        "methods": methods,
        "teacher_ms_per_step": teacher_ms,
        "looks": looks,
        "winner": winner_of(methods, right, [len(look["seeds"]) for look in looks]),
    }


def _looks(recipe: Recipe) -> bool:
    return is_auto(recipe.method) or Method.from_table(recipe.method).uses_teacher


def _made(runs: Mapping[str, Sequence[Run]]) -> list[Artifact]:
    return [run.artifact for several in runs.values() for run in several if run.artifact]


def _name(runs: Mapping[str, Sequence[Run]]) -> str:
    return next((str(made.manifest["model"]["name"]) for made in _made(runs)), "")


def _teacher(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Who it is, and its accuracy on the validation images as the student is shown them."""
    for made in _made(runs):
        parent = made.manifest["parent"]
        judged = parent.get("validation") or {}
        return {"name": parent["name"], "sha256": parent["sha256"], "top1": judged.get("top1")}
    return {"name": "", "sha256": None, "top1": None}
