"""Compare: several methods, and seeds, on one teacher and one student, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import edgekd
from edgekd import report
from edgekd.artifact import Artifact
from edgekd.claims import claim
from edgekd.errors import DivergedError, EdgeKDError, GateError
from edgekd.files import write_json
from edgekd.flow.choosing import is_auto
from edgekd.flow.compare_figures import Run, figures_of, right_of
from edgekd.flow.compare_folders import check_folders, folder_of, left_out
from edgekd.flow.compare_refusals import check_methods, check_recipes
from edgekd.flow.compare_winner import looks_at, winner_of
from edgekd.flow.job import Job
from edgekd.flow.training import LABELS, Lesson, conclude, prepare, teacher_of
from edgekd.loading import Splits, check_apart, open_splits
from edgekd.methods import Method
from edgekd.models import Backbone
from edgekd.recipe import Recipe
from edgekd.schema import COMPARE
from edgekd.trainer import Together, Trained
from edgekd.watching import Silent, Watch

ALONE = "ce"
"""The student without a teacher, which gains are paired with."""
SUMMARY = "compare.json"
"""Letters of a folder's name."""


@dataclass(frozen=True)
class Comparison:
    """What to compare, and where."""

    recipes: Mapping[str, Recipe]
    """By the text of its method; alike in all else. Their seed is the first one. With an order of
    the images (``data.order``), which is then that of all seeds, all train in one lockstep."""
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

    All students that are shown the same batches train in lockstep, and ask the teacher once a
    batch: the methods of a seed, or those of all seeds where ``data.order`` is set. Each student is
    bit for bit the one that ``distill`` makes with that method, seed and order. What is finished in
    the folder is taken as it is.

    Returns:
        What ``compare.json`` holds, with the report's paths under ``report``.

    Raises:
        GateError: the teacher is near chance.
        UsageError: a method that cannot work, twice the same one, a folder that holds something
            else: all before any training.
    """
    with claim(asked.out, "compare"):
        return _compare(replace(asked, recipes=_with_alone(asked.recipes)))


def _compare(asked: Comparison) -> dict[str, Any]:
    COMPARE.check_place(asked.out / SUMMARY)
    COMPARE.found(asked.out / SUMMARY)  # which a newer edgekd's is refused by
    report.check_place(asked.out)
    check_recipes(asked.recipes, asked.seeds)
    check_folders(list(asked.recipes))
    check_apart(asked.out, asked.shared.data.source)
    splits = open_splits(asked.shared.data)
    for note in splits.notes:
        asked.watch.say(note)
    check_methods(asked.recipes, splits)
    if left := left_out(asked.out, asked.recipes):
        asked.watch.say(f"in {asked.out}, and not compared without its --method: {', '.join(left)}")
    runs: dict[str, list[Run]] = {text: [] for text in asked.recipes}
    for sitting in _sittings(_places(asked, splits)):
        for place, run in _train(asked, sitting, splits):
            runs[place.text].append(run)
    found = _summary(asked, splits, runs)
    write_json(asked.out / SUMMARY, found)
    paths = report.write(asked.out)
    return found | {"report": {kind: str(path) for kind, path in paths.items()}}


@dataclass(frozen=True)
class _Place:
    """One method and seed: its job, and what its folder holds of it already."""

    text: str
    """The method's."""
    job: Job
    known: str
    finished: Artifact | None


def _with_alone(recipes: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """The student alone comes first."""
    shared = next(iter(recipes.values()))
    return {ALONE: recipes.get(ALONE, replace(shared, method=LABELS)), **recipes}


def _places(asked: Comparison, splits: Splits) -> list[_Place]:
    """The folders, seed by seed, and what is in them.

    Raises:
        UsageError: that is of another recipe.
    """
    teacher, found = teacher_of(asked.shared, splits.labels), []
    for number in range(asked.seeds):
        for text, recipe in asked.recipes.items():
            job = _job(asked, text, recipe.train.seed + number)
            known = job.known(teacher, splits)
            found.append(_Place(text, job, known, job.finished(known)))
    return found


def _sittings(places: Sequence[_Place]) -> list[list[_Place]]:
    """Those who are shown the same batches, together."""

    def order(place: _Place) -> int:
        return place.job.recipe.data.order_of(place.job.train.seed)

    return [list(alike) for _, alike in groupby(places, order)]


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


def _train(asked: Comparison, places: Sequence[_Place], splits: Splits) -> list[tuple[_Place, Run]]:
    """All of a sitting that are not finished yet, in lockstep."""
    left = [place for place in places if place.finished is None]
    # a network that was tapped before would be slower each time
    made = iter(_lockstep(left, teacher_of(asked.shared, splits.labels), splits) if left else ())
    found = []
    for place in places:
        seed, folder = place.job.train.seed, place.job.out.relative_to(asked.out).as_posix()
        result = place.finished or next(made)
        if isinstance(result, EdgeKDError):
            failed = _told(result, place.job)
            asked.watch.say(f"{place.text} (seed {seed}) is out: {failed}")
            found.append((place, Run(seed, folder, None, failed)))
        else:
            found.append((place, Run(seed, folder, result)))
    return found


def _lockstep(
    places: Sequence[_Place], teacher: Backbone, splits: Splits
) -> list[Artifact | EdgeKDError]:
    watch, seeds = places[0].job.watch, {place.job.train.seed for place in places}
    if len(seeds) > 1:
        watch.say(
            f"{len(places)} students of {len(seeds)} seeds train side by side, all in memory at "
            "once, and ask the teacher once a batch"
        )
    lessons: list[Lesson] = []
    for place in places:
        beside = lessons[0] if lessons else None
        lessons.append(prepare(place.job, teacher, splits, place.known, beside))
    tells = [lesson.job.tell for lesson in lessons]
    results = Together([lesson.task for lesson in lessons], tells, watch.say).run()
    return [
        result if isinstance(result, DivergedError) else _concluded(lesson, result)
        for lesson, result in zip(lessons, results, strict=True)
    ]


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
    methods, asked_teacher = figures_of(runs, ALONE, looking)
    seeds = [run.seed for run in runs[ALONE]]
    known = _job(asked, ALONE, 0).fingerprint(teacher_of(shared, splits.labels), splits)
    looks = looks_at(asked.out / SUMMARY, seeds, known)
    right = {text: right_of(several, "validation") for text, several in runs.items()}
    return {
        "kind": "compare",
        **COMPARE.head,
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
        "order": _order(shared.data.order, len(seeds)),
        "methods": methods,
        **asked_teacher,
        "looks": looks,
        "winner": winner_of(methods, right, [len(look["seeds"]) for look in looks]),
    }


def _order(seed: int, seeds: int) -> dict[str, Any] | None:
    """Where the images come in one order for all seeds, which, and what that leaves out."""
    if seed < 0 or seeds < 2:
        return None
    sentence = (
        f"All seeds saw the same batches, shuffled and augmented by seed {seed}: they differ in "
        "first weights and in what a method draws, and what another order of the images would "
        "change is in no interval."
    )
    return {"seed": seed, "sentence": sentence}


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
