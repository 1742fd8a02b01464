"""A set of images of the Hugging Face hub, such as hf/cifar100 (pip install datasets)."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from edgekd.data import FORMATS, Source, Split
from edgekd.errors import DataError

__all__ = ["hf"]

SPLITS = {"train": ("train",), "validation": ("validation", "valid"), "test": ("test",)}


def hf(rest: str) -> Source:
    """Through timm's reader: ``hf/ORG/NAME``, or ``hf/FOLDER`` with local files.

    Raises:
        DataError: the package ``datasets`` is missing, or the set cannot be had.
    """
    splits: dict[str, Split] = {}
    labels: tuple[str, ...] = ()
    for split, names in SPLITS.items():
        for name in names:
            reader = _reader(rest, name, required=split == "train")
            if reader is not None:
                splits[split] = _split(rest, reader)
                labels = labels or _labels(reader)
                break
    return Source(labels, splits)


def _reader(name: str, split: str, *, required: bool) -> Any:
    try:
        import datasets  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: F401
    except ImportError as error:
        raise DataError(
            "--data hf/... needs the package datasets, which is not installed: pip install datasets"
        ) from error
    from timm.data.readers import create_reader

    try:
        return create_reader(f"hfds/{name}", split=split)
    except Exception as error:  # the hub's clients raise a dozen unrelated classes
        if not required and "split" in str(error).lower():
            return None
        first = str(error).partition("\n")[0]
        raise DataError(f"the Hugging Face set {name!r} cannot be had: {first}") from error


def _labels(reader: Any) -> tuple[str, ...]:
    pairs: dict[str, int] = reader.class_to_idx
    return tuple(sorted(pairs, key=lambda label: pairs[label]))


def _split(name: str, reader: Any) -> Split:
    def image(index: int) -> Image.Image:
        return Image.open(reader[index][0], formats=FORMATS)

    targets = np.asarray(list(reader.iter_targets()), np.int64)
    return Split(targets, image, lambda i: f"{name}[{i}]")
