"""Divide a source once, the same for every seed: train, validation, and a test nobody peeks at."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekd import plugins
from edgekd.data import Indices, Source, Split
from edgekd.errors import DataError, UnknownNameError
from edgekd.hiding import stranger
from edgekd.recipe import Data
from edgekd.strict import is_unicode

SEED = 20150309
"""Of the division alone, so that runs with other seeds are comparable."""


@dataclass(frozen=True)
class Splits:
    """What a run sees of its data."""

    labels: tuple[str, ...]
    train: Split
    validation: Split
    """Watched during training."""
    test: Split
    """Used once, for the final figure."""
    augment: str
    notes: tuple[str, ...] = ()


def open_splits(data: Data) -> Splits:
    """Find, check and divide the images a recipe names.

    Raises:
        DataError: missing or empty classes, too few images, a share outside (0, 1).
    """
    source = find(data.source)
    pool, test = source.splits["train"], source.splits.get("test")
    check_classes(pool, source.labels)
    if test is None:
        pool, test = hold_out(pool, data.test)
    pool = limited(pool, data.limit)
    validation = source.splits.get("validation")
    train = pool
    if validation is None:
        if np.bincount(pool.targets, minlength=len(source.labels)).min() < 2:
            raise DataError(
                f"{len(pool)} images are left to train on, in {len(source.labels)} classes; "
                "expected two of each, one to validate with. Raise data.limit or lower data.test."
            )
        train, validation = hold_out(pool, data.validation)
    elif np.bincount(pool.targets, minlength=len(source.labels)).min() < 1:
        raise DataError(f"a limit of {data.limit} leaves classes without images. Raise data.limit.")
    augment = source.augment if data.augment == "auto" else data.augment
    notes = (*source.notes, *_clashes(source.labels))
    notes += _gaps("validation", validation, source.labels)
    notes += _gaps("test", test, source.labels)
    return Splits(source.labels, train, validation, test, augment, notes)


def _gaps(name: str, split: Split, labels: Sequence[str]) -> tuple[str, ...]:
    """A note on the classes a split says nothing about."""
    absent = np.flatnonzero(np.bincount(split.targets, minlength=len(labels)) == 0)
    listed = ", ".join(labels[i] for i in absent[:5])
    many = "one class" if len(absent) == 1 else f"{len(absent)} classes"
    return (f"no {name} images of {many}: {listed}",) if len(absent) else ()


def _clashes(labels: Sequence[str]) -> tuple[str, ...]:
    """Notes on classes that may be one: of one name, or of names that differ in case alone."""
    spelt: dict[str, list[str]] = {}
    counts = Counter(labels)
    for label in counts:
        spelt.setdefault(label.casefold(), []).append(label)
    alike = [" and ".join(group) for group in spelt.values() if len(group) > 1]
    notes = (f"classes that differ in case alone: {', '.join(alike[:5])}",) if alike else ()
    twice = [f"{count} are called {name}" for name, count in counts.items() if count > 1]
    return (*notes, f"classes of one name: {', '.join(twice[:5])}") if twice else notes


def check_labels(splits: Splits, expected: Sequence[str], where: str) -> None:
    """Refuse images of other classes, or of the same ones in another order.

    Raises:
        DataError: naming the first classes of both.
    """
    if list(splits.labels) != list(expected):
        raise DataError(
            f"the data has the {len(splits.labels)} classes {', '.join(splits.labels[:4])} ...; "
            f"{where} tells {len(expected)}: {', '.join(expected[:4])} .... Expected the same "
            "classes in the same order."
        )


def find(text: str) -> Source:
    """``NAME[/REST]`` of a data plug-in, or a path.

    Raises:
        UnknownNameError: neither.
        DataError: it is what another machine hides in an artifact.
    """
    if wrong := stranger(text, "where the images lie", "Name the folder with --data."):
        raise DataError(wrong)
    path, known = folder_named(text), plugins.summaries("dataset")
    name, _, rest = ("folder", "/", path) if path else text.partition("/")
    if name not in known or (name == "folder" and not path):
        raise UnknownNameError("data set", text, [*known, "a path such as ./images"])
    source: Source = plugins.load("dataset", name)(rest)
    return source


def folder_named(text: str) -> str:
    """The path that ``text`` is; empty where it is a data plug-in's name, or nothing known."""
    name = text.partition("/")[0]
    if name in plugins.summaries("dataset") and name != "folder":
        return ""
    is_path = "/" in text or text.startswith((".", "~")) or (text and _is_there(text))
    return _at_home(text) if is_path else ""


def _is_there(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # a name longer than any
        return False


def _at_home(text: str) -> str:
    """The path with ``~`` or ``~somebody`` written out."""
    try:
        return str(Path(text).expanduser())
    except RuntimeError as error:
        raise DataError(f"the data {text!r} is in the home of nobody known here.") from error


def check_classes(split: Split, labels: Sequence[str]) -> None:
    """Refuse what cannot be learnt or held out: one class, or a class with too few images.

    And names of classes that are none: they are written into files and shown everywhere.
    """
    for name in labels:
        if not is_unicode(name) or any(unicodedata.category(char) == "Cc" for char in name):
            raise DataError(
                f"the class name {name!r} is not UTF-8, or has control characters. Rename it."
            )
    if len(labels) < 2:
        raise DataError(
            f"the data has one class ({', '.join(labels)}); expected at least two. "
            "Is this the folder above the class folders?"
        )
    counts = np.bincount(split.targets, minlength=len(labels))
    poorest = int(counts.argmin())
    if counts[poorest] < 3:
        many = "one image" if counts[poorest] == 1 else f"{counts[poorest]} images"
        raise DataError(
            f"the class {labels[poorest]!r} has {many}; expected at least 3, "
            "to train on, to validate with and to test with."
        )


def hold_out(split: Split, share: float) -> tuple[Split, Split]:
    """Take a share of each class out, at least one image and not all: (rest, held out)."""
    classes = _by_class(split.targets)
    counts = [min(max(1, round(share * len(rows))), len(rows) - 1) for rows in classes]
    held = np.concatenate([rows[:n] for rows, n in zip(classes, counts, strict=True)])
    rest = np.setdiff1d(np.arange(len(split)), held)
    return split.subset(rest), split.subset(np.sort(held))


def limited(split: Split, limit: int) -> Split:
    """At most ``limit`` images, class by class in equal shares; 0 keeps all."""
    if not 0 < limit < len(split):
        return split
    classes = _by_class(split.targets)
    most = max(map(len, classes))
    queue = [row for rank in range(most) for rows in classes for row in rows[rank : rank + 1]]
    return split.subset(np.sort(np.array(queue[:limit], np.int64)))


def _by_class(targets: Indices) -> list[Indices]:
    """Row numbers of each class, shuffled."""
    draw = np.random.default_rng(SEED)
    return [draw.permutation(np.flatnonzero(targets == number)) for number in np.unique(targets)]
