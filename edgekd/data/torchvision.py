"""A data set of torchvision by name, such as torchvision/cifar10; downloaded to ~/.cache/edgekd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgekd.data import Source, Split
from edgekd.errors import DataError

__all__ = ["torchvision"]

GREY = ("mnist", "kmnist", "fashion_mnist", "qmnist")
"""Signs and clothes that change their meaning, or never occur, when mirrored."""


def torchvision(rest: str) -> Source:
    """Through timm's factory; ``cifar10, cifar100, mnist, fashion_mnist, imagenet ...``.

    ``NAME@FOLDER`` reads from a folder of your own instead of the cache.

    Raises:
        DataError: no such data set, or it cannot be fetched.
    """
    name, _, folder = rest.partition("@")
    root = Path(folder) if folder else Path.home() / ".cache" / "edgekd" / "data"
    train, test = (_dataset(name, root, split) for split in ("train", "validation"))
    labels = getattr(train, "classes", None) or sorted({int(t) for t in train.targets})
    splits = {"train": _split(name, train), "test": _split(name, test)}
    augment = "shift" if name in GREY else "shift+flip"
    return Source(tuple(str(label) for label in labels), splits, augment)


def _dataset(name: str, root: Path, split: str) -> Any:
    from timm.data import create_dataset

    try:
        return create_dataset(f"torch/{name}", root=str(root), split=split, download=True)
    except (AssertionError, RuntimeError, OSError, ValueError, TypeError) as error:
        first = str(error).partition("\n")[0]
        raise DataError(
            f"torchvision's {name!r} cannot be had: {first}. Expected a name such as cifar10 and a "
            "network, or the files in a folder: --data torchvision/NAME@FOLDER."
        ) from error


def _split(name: str, dataset: Any) -> Split:
    targets = getattr(dataset, "targets", None)
    if targets is None:
        targets = [target for _, target in dataset]

    def image(index: int) -> Image.Image:
        found: Image.Image = dataset[index][0]
        return found

    return Split(np.asarray(targets, np.int64), image, lambda i: f"{name}[{i}]")
