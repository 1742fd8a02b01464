"""Images on disk: a folder or a tar with one subfolder a class, or a folder of train and test."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from edgekd.data import FORMATS, Source, Split
from edgekd.data._places import (
    MOST_BYTES,
    Names,
    collect,
    in_order,
    is_beside,
    members,
    natural,
    parted,
    stamp_of,
)
from edgekd.errors import DataError
from edgekd.files import contents

__all__ = ["folder"]

SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"}
UNREAD = {
    ".heic",
    ".heif",
    ".avif",
    ".jxl",
    ".jp2",
    ".jfif",
    ".tga",
    ".svg",
    ".psd",
    ".dng",
    ".cr2",
}
"""Of images as well, which are counted and left out."""
_Found = tuple[Names, Callable[[int], bytes], Callable[[int], str]]
EXPECTED = "Expected one subfolder a class, with images in it."


def folder(rest: str) -> Source:
    """Images on disk.

    A folder's ``train`` part is divided further; ``test`` is used once, at the end. Where there
    is ``val`` and no ``test``, ``val`` is kept for the end and validation images are held out of
    ``train``: what an epoch was chosen on says little.

    Raises:
        DataError: nothing there, no images, an empty class, other classes in test than in train,
            a tar with two files of one name.
    """
    root = Path(rest)
    try:
        state = root.stat()
        parts = _parts(root)
    except (FileNotFoundError, ValueError) as error:
        raise DataError(f"there is no folder or tar {rest}. {EXPECTED}") from error
    except OSError as error:
        raise DataError(f"{rest} cannot be read: {error.strerror}. {EXPECTED}") from error
    if not stat.S_ISDIR(state.st_mode) and not stat.S_ISREG(state.st_mode):
        raise DataError(f"{rest} is neither a folder nor a tar. {EXPECTED}")
    left: Counter[str] = Counter()
    if "train" not in parts:
        _refuse_shards(root, rest)
        labels, split = _read(root, left)
        return Source(labels, {"train": split}, notes=_told(left))
    labels, train = _read(parts["train"], left)
    splits, notes = {"train": train}, []
    for name in ("validation", "test"):
        if name in parts:
            splits[name] = _renumbered(parts[name], labels, left)
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        notes.append("there is no test/: the val/ images are kept for the final figure")
    return Source(labels, splits, notes=(*notes, *_told(left)))


def walked(rest: str) -> list[Path]:
    """The folders or tars that are looked through for images, whatever else lies beside them."""
    root = Path(rest)
    parts = _parts(root)
    return list(parts.values()) if "train" in parts else [root]


def _told(left: Counter[str]) -> tuple[str, ...]:
    """A note on the images that are left out."""
    if not left:
        return ()
    what = f"{left.total():,} images are" if left.total() > 1 else "one image is"
    return (
        f"{what} left out: {', '.join(sorted(left))} files are not read. Convert to PNG or JPEG",
    )


def _refuse_shards(root: Path, rest: str) -> None:
    """Another plug-in reads those; a folder of classes may hold a description of any name."""
    if (root / "_info.json").is_file() and not any(each.is_dir() for each in root.iterdir()):
        raise DataError(
            f"{rest} has no class folders, but an _info.json, as WebDataset shards have. Expected "
            f"one subfolder a class; read it as shards with --data wds/{rest}"
        )


def _parts(root: Path) -> dict[str, Path]:
    """The folders or tars of the splits, whatever their case; a class may be called so as well."""
    there = {place.name.lower(): place for place in sorted(root.iterdir())} if root.is_dir() else {}
    found = {}
    for split, names in SPLITS.items():
        tars = [there[f"{name}.tar"] for name in names if f"{name}.tar" in there]
        folders = [there[name] for name in names if name in there]
        places = [tar for tar in tars if tar.is_file()]
        places += [f for f in folders if f.is_dir() and any(map(_is_class, f.iterdir()))]
        if places:
            found[split] = places[0]
    return found


def _is_class(place: Path) -> bool:
    return place.is_dir() and not place.name.startswith(".")


def _read(part: Path, left: Counter[str]) -> tuple[tuple[str, ...], Split]:
    """Class names as people count them, and the images in the order of their names.

    Args:
        part: a folder or a tar.
        left: counts images of formats that are not read, by their extensions.
    """
    try:
        names, read, stamp = _packed(part, left) if part.is_file() else _plain(part, left)
    except (OSError, tarfile.TarError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition(". ")[0]
        raise DataError(f"{part} cannot be read: {reason}. {EXPECTED}") from error
    if not len(names):
        raise DataError(". ".join((f"{part} cannot be read: no images", *_told(left), EXPECTED)))
    if part.is_dir():
        _refuse_empty_classes(part, names, left)
    folders: dict[str, str] = {}  # and the first image in each
    for name in names:
        folders.setdefault(parted(name)[0], name)
    _refuse_mixed_places(part, folders)
    label = {folder: parted(folder)[1] for folder in folders}
    labels = tuple(sorted(set(label.values()), key=lambda text: (natural(text), text)))
    number = {folder: labels.index(label[folder]) for folder in folders}
    targets = np.fromiter((number[parted(name)[0]] for name in names), np.int64, len(names))

    def image(row: int) -> Image.Image:
        return Image.open(io.BytesIO(read(row)), formats=FORMATS)

    return labels, Split(targets, image, lambda row: f"{part}/{names[row]}", stamp)


def _plain(part: Path, left: Counter[str]) -> _Found:
    """The images below a folder: their names in it, how to read one, and its stamp."""
    names = Names(name for name in _walk(part) if _is_taken(name, left))
    names = names.at(in_order(names))
    return (
        names,
        lambda row: contents(part / names[row], MOST_BYTES),
        lambda row: stamp_of(part / names[row]),
    )


def _walk(part: Path) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise error

    seen: dict[tuple[int, int], str] = {}
    for place, folders, files in os.walk(part, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        state = Path(place).stat()
        if other := seen.get(key := (state.st_dev, state.st_ino)):
            # a circle; or images that would count twice, in as many ways as links lead there
            raise DataError(f"{place} and {other} are one folder, by a link. Remove the link.")
        seen[key] = place
        inside = Path(place).relative_to(part).as_posix()
        above = "" if inside == "." else f"{inside}/"
        for file in files:
            yield above + file


def _packed(part: Path, left: Counter[str]) -> _Found:
    """The images of a tar: their names in it, how to read one where it stands, and its stamp."""
    if part.suffix.lower() != ".tar":
        raise tarfile.ReadError("it is neither a folder nor a .tar")
    found = ((0, member) for member in members(part) if _is_taken(member.name, left))
    places, names = collect([part], found)
    order = in_order(names)
    places = places.at(order)
    return names.at(order), places.read, places.stamp


def _is_taken(name: str, left: Counter[str]) -> bool:
    """Whether it is an image to read; one of another format is counted in ``left``."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts[:-1] if part not in (".", ".."))
    extension = path.suffix.lower()
    if is_beside(name) or hidden:
        return False
    left.update({extension} & UNREAD)
    return extension in EXTENSIONS


def _refuse_mixed_places(part: Path, folders: Mapping[str, str]) -> None:
    """All class folders must lie in one folder.

    Deeper ones would be merged by their last name, and stray images make a nameless class.
    """
    if set(folders) == {""}:
        raise DataError(
            f"{part} has images, and no class folders. {EXPECTED} If it is one of the classes, "
            "give the folder that it lies in."
        )
    home: str | None = None
    for folder, name in folders.items():
        above, label = parted(folder)
        home = above if home is None else home
        if label in ("", ".", "..") or above != home:
            raise DataError(
                f"the image {name} in {part} does not lie in a class folder beside the others. "
                "Expected one folder a class, all in the same place; move it."
            )


def _refuse_empty_classes(part: Path, names: Names, left: Counter[str]) -> None:
    """A class folder without images is most often a mistake: a wrong path, an aborted copy."""
    filled = {name.partition("/")[0] for name in names}
    for place in sorted(part.iterdir()):
        if _is_class(place) and place.name not in filled:
            found = (f"the class folder {place} has no images", *_told(left))
            raise DataError(f"{'. '.join(found)}. Put some in, or remove the folder.")


def _renumbered(part: Path, labels: tuple[str, ...], left: Counter[str]) -> Split:
    """A further split, its classes numbered as the training split's are."""
    own, split = _read(part, left)
    unknown = sorted(set(own) - set(labels))
    if unknown:
        raise DataError(
            f"{part} has classes the training images do not have: {', '.join(unknown[:5])}. "
            "Expected the same class folders in both."
        )
    number = np.array([labels.index(label) for label in own])
    return Split(number[split.targets], split.image, split.name, split.stamp)
