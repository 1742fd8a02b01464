"""Folders of images that tell no classes, or not enough of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.bad_input.table import Case, Cases, Place


def changed(make: Callable[[Path], object]) -> Case:
    """Good images in a folder, and this done to it."""

    def case(place: Place) -> list[str | Path]:
        data = place.pictures(cat=6, dog=6)
        make(data)
        return place.teach(data)

    return case


def halves(*moved: tuple[str, str]) -> Case:
    """Images in ``train`` and ``test``, and classes renamed in one of them."""

    def divide(data: Path) -> None:
        for part in ("train", "test"):
            for label in ("cat", "dog"):
                (data / part / label).mkdir(parents=True)
                for number in range(3) if part == "train" else range(3, 6):
                    (data / label / f"{number}.png").rename(data / part / label / f"{number}.png")
        for label in ("cat", "dog"):
            (data / label).rmdir()
        for old, new in moved:
            (data / old).rename(data / new)

    return changed(divide)


def loops(data: Path) -> None:
    """Each way leads to both again: followed blindly, 2^40 ways."""
    (data / "cat" / "more").symlink_to("..")
    (data / "dog" / "more").symlink_to("..")


def hide(data: Path) -> None:
    for label in ("cat", "dog"):
        (data / label).rename(data / f".{label}")


def disguise(data: Path) -> None:
    (data / "cow" / "1.png").mkdir(parents=True)


def among(*out: str) -> Case:
    """Results where the classes are."""

    def case(place: Place) -> list[str | Path]:
        data = place.pictures(cat=6, dog=6)
        return [*place.teach(data), "--output", data.joinpath(*out)]

    return case


def placed(make: Callable[[Path], object]) -> Case:
    """A teacher of what this makes of a path."""

    def case(place: Place) -> list[str | Path]:
        make(place.tmp / "images")
        return place.teach(place.tmp / "images")

    return case


CASES: Cases = {
    "missing folder": (
        lambda p: p.teach(p.tmp / "nowhere"),
        2,
        ["there is no folder or tar", "nowhere", "one subfolder a class"],
    ),
    "empty class": (
        changed(lambda data: (data / "cow").mkdir()),
        2,
        ["cow has no images", "remove the folder"],
    ),
    "class of folders with images' names": (
        changed(disguise),
        2,
        ["cow has no images", "remove the folder"],
    ),
    "one class": (
        lambda p: p.teach(p.pictures(cat=9)),
        2,
        ["one class (cat)", "at least two"],
    ),
    "one image a class": (
        lambda p: p.teach(p.pictures(cat=9, dog=1)),
        2,
        ["'dog' has one image", "at least 3"],
    ),
    "classes of which one is in test alone": (
        halves(("test/cat", "test/cow")),
        2,
        ["test has classes the training images do not have: cow", "in both"],
    ),
    "classes of another case in test": (
        halves(("test/cat", "test/Cat")),
        2,
        ["test has classes the training images do not have: Cat", "in both"],
    ),
    "hidden classes": (changed(hide), 2, ["no images", "one subfolder a class"]),
    "image beside the classes": (
        changed(lambda data: (data / "cat" / "1.png").rename(data / "1.png")),
        2,
        ["the image 1.png in", "does not lie in a class folder beside the others"],
    ),
    "class in a class": (
        changed(lambda data: (data / "dog").rename(data / "cat" / "dog")),
        2,
        ["cat/dog", "does not lie in a class folder beside the others"],
    ),
    "class in a circle": (
        changed(lambda data: (data / "cat" / "cat").symlink_to("../cat")),
        2,
        ["cat/cat and", "are one folder, by a link", "Remove the link"],
    ),
    "classes in circles": (changed(loops), 2, ["are one folder, by a link"]),
    "class by two names": (
        changed(lambda data: (data / "kitten").symlink_to("cat")),
        2,
        ["kitten", "cat", "are one folder, by a link"],
    ),
    "class of two lines": (
        changed(lambda data: (data / "cat").rename(data / "c\nat")),
        2,
        ["the class name 'c\\nat'", "has control characters", "Rename it"],
    ),
    "class in red": (
        changed(lambda data: (data / "cat").rename(data / "\x1b[31mred")),
        2,
        ["the class name '\\x1b[31mred'", "has control characters"],
    ),
    "class of no text": (
        changed(lambda data: (data / "cat").rename(data / "caf\udce9")),
        2,
        ["the class name 'caf\\udce9' is not UTF-8"],
    ),
    "one of the classes": (
        lambda p: p.teach(p.pictures(cat=6, dog=6) / "cat"),
        2,
        ["has images, and no class folders", "give the folder that it lies in"],
    ),
    "results in place of the classes": (
        among(),
        2,
        ["lies among the images of", "every folder is taken for a class", "another --output"],
    ),
    "results among the classes": (
        among("made"),
        2,
        ["made lies among the images of", "every folder is taken for a class", "--output"],
    ),
    "images that are a pipe": (placed(os.mkfifo), 2, ["images is neither a folder nor a tar"]),
    "images without end": (
        placed(lambda path: path.symlink_to("/dev/zero")),
        2,
        ["images is neither a folder nor a tar"],
    ),
    "images in a circle": (
        placed(lambda path: path.symlink_to(path)),
        2,
        ["images cannot be read: Too many levels of symbolic links"],
    ),
    "images that are words": (
        placed(lambda path: path.write_text("cat dog")),
        2,
        ["images cannot be read: it is neither a folder nor a .tar"],
    ),
    "no images": (placed(Path.mkdir), 2, ["images cannot be read: no images"]),
}
