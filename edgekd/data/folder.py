"""Images on disk: a folder or a tar with one subfolder a class, or a folder of train and test."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from threading import Lock
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
    places = [root / f"{name}{end}" for name in names for end in ("", ".tar")]
    return next((place for place in places if root.is_dir() and place.exists()), None)


def _read(part: Path) -> tuple[tuple[str, ...], Split]:
    """Class names in timm's order, and the images."""
    from timm.data.readers import add_img_extensions, create_reader

    add_img_extensions(EXTENSIONS)
    if part.is_dir():
        _refuse_empty_classes(part)
    try:
        # timm would else read a pickled index it may find beside a large tar, and share one open
        # file, with its one position, between the processes that decode
        tar = {"cache_tarinfo": False, "cache_tarfiles": False}
        options: dict[str, Any] = tar if part.suffix == ".tar" else {}
        reader = create_reader("", root=str(part), **options)
    except (RuntimeError, ValueError, OSError, tarfile.TarError) as error:
        raise DataError(
            f"{part} cannot be read: {str(error).partition('. ')[0]}. "
            "Expected one subfolder a class, with images in it."
        ) from error
    pairs: dict[str, int] = getattr(reader, "class_to_idx", None) or reader.class_name_to_idx
    labels = tuple(sorted(pairs, key=lambda label: pairs[label]))
    targets = reader.targets if part.suffix == ".tar" else [t for _, t in reader.samples]
    names = [reader.filename(i) for i in range(len(targets))]
    return labels, Split(
        np.asarray(targets, np.int64), _opener(reader), lambda i: f"{part}/{names[i]}"
    )


def _opener(reader: Any) -> Callable[[int], Image.Image]:
    """Read the bytes one at a time (a tar has one position), decode them anywhere."""
    lock = Lock()

    def image(index: int) -> Image.Image:
        with lock:
            file, _ = reader[index]
            with file:
                data = io.BytesIO(file.read())
        return Image.open(data)

    return image


def _refuse_empty_classes(part: Path) -> None:
    """A class folder without images is most often a mistake: a wrong path, an aborted copy."""
    for place in sorted(part.iterdir()):
        if place.is_dir() and not place.name.startswith(".") and not any(place.rglob("*.*")):
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
