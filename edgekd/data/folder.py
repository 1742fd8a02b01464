"""Images on disk: a folder or a tar with one subfolder a class, or a folder of train and test."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from edgekd.data import Source, Split
from edgekd.errors import DataError

__all__ = ["folder"]

SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
EXTENSIONS = (".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")
"""Read beside timm's own .png, .jpg and .jpeg."""


def folder(rest: str) -> Source:
    """Images on disk.

    A folder's ``train`` part is divided further; ``test`` is used once, at the end. Where there
    is ``val`` and no ``test``, ``val`` is kept for the end and validation images are held out of
    ``train``: what an epoch was chosen on says little.

    Raises:
        DataError: nothing there, no images, an empty class, other classes in test than in train.
    """
    root = Path(rest)
    if not root.exists():
        raise DataError(f"there is no folder or tar {rest}. Expected one subfolder a class.")
    parts = {split: _find(root, names) for split, names in SPLITS.items()}
    if parts["train"] is None:
        labels, split = _read(root)
        return Source(labels, {"train": split})
    labels, train = _read(parts["train"])
    splits, notes = {"train": train}, []
    for name in ("validation", "test"):
        if (part := parts[name]) is not None:
            splits[name] = _renumbered(part, labels)
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        notes.append("there is no test/: the val/ images are kept for the final figure")
    return Source(labels, splits, notes=tuple(notes))


def _find(root: Path, names: tuple[str, ...]) -> Path | None:
    """The folder or tar of a split; a class folder may be called ``train`` as well."""
    tars = [root / f"{name}.tar" for name in names]
    folders = [root / name for name in names]
    places = [tar for tar in tars if tar.is_file()]
    places += [f for f in folders if f.is_dir() and any(e.is_dir() for e in f.iterdir())]
    return places[0] if places else None


def _read(part: Path) -> tuple[tuple[str, ...], Split]:
    """Class names in timm's order, and the images."""
    from timm.data.readers import add_img_extensions, create_reader, get_img_extensions

    add_img_extensions(EXTENSIONS)
    packed = part.suffix == ".tar" and part.is_file()
    if part.is_dir():
        _refuse_empty_classes(part, get_img_extensions(as_set=True))
    try:
        # timm would else read a pickled index it may find beside a large tar
        options: dict[str, Any] = {"cache_tarinfo": False} if packed else {}
        reader = create_reader("", root=str(part), **options)
    except (RuntimeError, ValueError, OSError, tarfile.TarError) as error:
        # zip() of nothing is how timm meets a tar without images
        reason = "no images" if isinstance(error, ValueError) else str(error).partition(". ")[0]
        raise DataError(
            f"{part} cannot be read: {reason}. Expected one subfolder a class, with images in it."
        ) from error
    pairs: dict[str, int] = getattr(reader, "class_to_idx", None) or reader.class_name_to_idx
    labels = tuple(sorted(pairs, key=lambda label: pairs[label]))
    targets = reader.targets if packed else [target for _, target in reader.samples]
    names = [reader.filename(i) for i in range(len(targets))]
    _refuse_mixed_places(part, names)
    image = _from_tar(reader, part) if packed else _from_folder(reader)
    return labels, Split(np.asarray(targets, np.int64), image, lambda i: f"{part}/{names[i]}")


def _from_folder(reader: Any) -> Callable[[int], Image.Image]:
    def image(index: int) -> Image.Image:
        file, _ = reader[index]
        with file:
            return Image.open(io.BytesIO(file.read()))

    return image


def _from_tar(reader: Any, tar: Path) -> Callable[[int], Image.Image]:
    """Read an image where it stands in the tar.

    Each reading has a handle of its own: timm's one has one position, which the threads and
    processes that decode would move under one another.
    """

    def image(index: int) -> Image.Image:
        member, _, inner = reader.samples[index]  # inner: of a tar in the tar
        with tar.open("rb") as file:
            file.seek(member.offset_data + (inner.offset_data if inner else 0))
            return Image.open(io.BytesIO(file.read(member.size)))

    return image


def _refuse_mixed_places(part: Path, names: Sequence[str]) -> None:
    """All class folders must lie in one folder.

    Deeper ones would be merged by their last name, and stray images make a nameless class.
    """
    home: tuple[str, ...] | None = None
    for name in names:
        *above, label, _ = ("", *PurePosixPath(name).parts)
        home = tuple(above) if home is None else home
        if not label or tuple(above) != home:
            raise DataError(
                f"the image {name} in {part} does not lie in a class folder beside the others. "
                "Expected one folder a class, all in the same place; move it."
            )


def _refuse_empty_classes(part: Path, extensions: set[str]) -> None:
    """A class folder without images is most often a mistake: a wrong path, an aborted copy."""
    for place in sorted(part.iterdir()):
        if not place.is_dir() or place.name.startswith("."):
            continue
        if not any(file.suffix.lower() in extensions for file in place.rglob("*.*")):
            raise DataError(
                f"the class folder {place} has no images. Put some in, or remove the folder."
            )


def _renumbered(part: Path, labels: tuple[str, ...]) -> Split:
    """A further split, its classes numbered as the training split's are."""
    own, split = _read(part)
    unknown = sorted(set(own) - set(labels))
    if unknown:
        raise DataError(
            f"{part} has classes the training images do not have: {', '.join(unknown[:5])}. "
            "Expected the same class folders in both."
        )
    number = np.array([labels.index(label) for label in own])
    return Split(number[split.targets], split.image, split.name)
