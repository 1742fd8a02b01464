"""Which training images int8 is calibrated on, and which ones choose between calibrators."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from edgekd.data import Images, Indices, Split
from edgekd.errors import DataError
from edgekd.export._order import Calibration
from edgekd.loading.decode import decode
from edgekd.preprocess import Preprocess

__all__ = ["calibration_of"]

SEED = 20120905
"""Of the choice alone: it is the same whatever a run's own seed is."""
MOST_HELD_OUT = 512
LEAST_SHARE = 4
"""At least a quarter as many images are held out as are calibrated on."""


def calibration_of(split: Split, preprocess: Preprocess, count: int) -> Calibration:
    """Take ``count`` images of a split in equal shares of each class, and hold others out.

    Nothing is augmented: int8 has to cover what the network sees in use.

    Args:
        split: training images; they are decoded here, and only those that are taken.
        preprocess: what the network expects.
        count: images to take the ranges from. As many others are held out, 512 at most.

    Raises:
        DataError: too few images, or one that cannot be read, by its name.
    """
    least = -(-count // LEAST_SHARE)
    if len(split) < count + least:
        most = max(1, len(split) * LEAST_SHARE // (LEAST_SHARE + 1))
        raise DataError(
            f"int8 is to be calibrated on {count} training images, and chosen on {least} others; "
            f"found {len(split)}. Give more images, or ask for fewer: --calibration {most}."
        )
    order = _in_turn(split.targets)
    held = min(count, MOST_HELD_OUT, len(split) - count)
    taken, others = (split.subset(part) for part in (order[:count], order[count : count + held]))
    names = _short(tuple(taken.name(i) for i in range(len(taken))))
    images = decode(taken, preprocess)
    return Calibration(images, names, _digest(names, images), decode(others, preprocess))


def _short(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names within their data set: where that lies on this machine concerns nobody."""
    above = os.path.commonpath([Path(name).parent.parent for name in names])
    return tuple(Path(name).relative_to(above).as_posix() for name in names)


def _in_turn(targets: Indices) -> Indices:
    """Row numbers, shuffled, the classes taking turns: any stretch is as balanced as it can be."""
    draw = np.random.default_rng(SEED)
    classes = [draw.permutation(np.flatnonzero(targets == k)) for k in np.unique(targets)]
    turns = np.concatenate([np.arange(len(rows)) for rows in classes])
    # Within a turn the classes come in an order of their own, so that fewer images than classes
    # are not always the first classes.
    places = draw.permutation(len(turns))
    return np.concatenate(classes)[np.lexsort((places, turns))]


def _digest(names: tuple[str, ...], images: Images) -> str:
    """SHA-256 of names and pixels."""
    found = hashlib.sha256()
    for name, pixels in zip(names, images.pixels, strict=True):
        found.update(name.encode() + b"\0")
        found.update(np.ascontiguousarray(pixels).data)
    return found.hexdigest()
