"""Read what teacher, baseline and student answered for the test images, class by class."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.errors import UsageError
from edgekd.intervals import paired_difference
from edgekd.plain import plain
from edgekd.report.reading import read_json
from edgekd.report.view import Answered, ArtifactView, ClassChange, dig, listed

ANSWERS = "answers.json"
log = logging.getLogger("edgekd.report")
MOST = 30
"""Classes of which every pair is counted; of more, no screen shows a picture."""
BEFORE = ("teacher", "baseline")
STUDENT = "student"


@dataclass(frozen=True)
class Sheet:
    """A network's answers, and the truth, in the order of the images."""

    artifact: ArtifactView
    predictions: Sequence[int]
    targets: Sequence[int]
    labels: Sequence[str]


def answered_in(
    folder: Path, artifacts: Sequence[ArtifactView]
) -> tuple[tuple[Answered, ...], tuple[ClassChange, ...]]:
    """Answers of each role's network, and how the student's differ; both empty without a student.

    Args:
        folder: the run folder.
        artifacts: all in it; the first network of each role counts.
    """
    sheets: dict[str, Sheet] = {}
    for artifact in artifacts:
        wanted = artifact.kind == "network" and artifact.role in (*BEFORE, STUDENT)
        if wanted and artifact.role not in sheets:
            sheet = _sheet(folder, artifact)
            sheets |= {artifact.role: sheet} if sheet else {}
    student = sheets.get(STUDENT)
    if student is None:
        return (), ()
    alike = [sheets[role] for role in BEFORE if role in sheets and _same(sheets[role], student)]
    changes = [change for before in alike for change in _changes(before, student)]
    return tuple(map(_answered, [*alike, student])), tuple(changes)


def _sheet(folder: Path, artifact: ArtifactView) -> Sheet | None:
    """What the file says; None where there is none.

    None as well where it is broken, or its classes are not those of the labels: that costs this
    part and not the report, and is said.
    """
    file = folder / artifact.path / ANSWERS
    try:
        found = read_json(file)
    except UsageError as error:
        _say_left_out(str(error))
        return None
    if found is None:
        return None
    said, truth = (listed(dig(found, key)) for key in ("predictions", "targets"))
    labels = [str(label) for label in listed(artifact.manifest.get("labels"))]
    fit = said and len(said) == len(truth)
    if not fit or not all(_is_class(value, len(labels)) for value in (*said, *truth)):
        _say_left_out(
            f"{file} does not fit. Expected one of the {len(labels):,} classes for each image as "
            "predictions, and as targets. Make the artifact again."
        )
        return None
    return Sheet(artifact, said, truth, labels)


def _say_left_out(why: str) -> None:
    log.warning("left out of the report: what was answered by class: %s", plain(why))


def _is_class(value: Any, classes: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < classes


def _same(one: Sheet, other: Sheet) -> bool:
    """Whether two answered the same images; only then do image and image make a pair."""
    return (one.targets, one.labels) == (other.targets, other.labels)


def _answered(sheet: Sheet) -> Answered:
    own, size = sheet.artifact, len(sheet.labels)
    pairs = Counter(zip(sheet.targets, sheet.predictions, strict=True))
    shown = range(size if size <= MOST else 0)
    counts = tuple(tuple(pairs[true, said] for said in shown) for true in shown)
    return Answered(own.role, own.name, own.path, len(sheet.targets), counts)


def _changes(before: Sheet, after: Sheet) -> list[ClassChange]:
    """One for each class that has an image."""
    found = []
    tallies: dict[int, Counter[tuple[bool, bool]]]
    tallies = {index: Counter() for index in range(len(after.labels))}
    for target, old, now in zip(after.targets, before.predictions, after.predictions, strict=True):
        tallies[target][old == target, now == target] += 1
    for index, tally in tallies.items():
        if n := tally.total():
            known = paired_difference(tally[False, True], tally[True, False], n)
            both = tally[True, True]
            was, now_right = both + tally[True, False], both + tally[False, True]
            found.append(
                ClassChange(
                    before.artifact.role,
                    index,
                    after.labels[index],
                    n,
                    was / n,
                    now_right / n,
                    known.value,
                    known.lo,
                    known.hi,
                )
            )
    return found


def confusions(found: Answered) -> list[tuple[int, int, int]]:
    """True class, answer and how often, of what was answered wrongly; the most frequent first."""
    indices = range(len(found.counts))
    wrong = [
        (true, said, found.counts[true][said])
        for true, said in itertools.permutations(indices, 2)
        if found.counts[true][said]
    ]
    return sorted(wrong, key=lambda entry: (-entry[2], entry[0], entry[1]))
