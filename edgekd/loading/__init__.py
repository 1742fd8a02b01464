"""Loading: from a source to batches, in memory where it fits, streamed where it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgekd.data import Images, Loader, Split
from edgekd.loading.decode import decode
from edgekd.loading.memory import ALL, EvalLoader, Share, Shift, TrainLoader, stored_bytes
from edgekd.loading.splits import Splits, check_labels, open_splits
from edgekd.loading.stream import StreamLoader
from edgekd.preprocess import Preprocess
from edgekd.recipe import Data, Train

__all__ = [
    "Loaders",
    "Share",
    "Splits",
    "check_labels",
    "eval_loader",
    "loaders",
    "open_splits",
    "some_images",
]

EVAL_BATCH = 256


@dataclass(frozen=True)
class Loaders:
    """What a training loop draws from, all prepared for one network."""

    train: Loader
    validation: Loader
    test: Loader


def loaders(
    splits: Splits,
    preprocess: Preprocess,
    data: Data,
    train: Train,
    share: Share = ALL,
    tick: Callable[[], None] = lambda: None,
) -> Loaders:
    """Make the three loaders; those that fit into ``data.memory_gb`` are decoded now.

    Args:
        splits: the images.
        preprocess: what the student expects.
        data: how to augment, and how much memory to take.
        train: batch size and seed.
        share: this process's part of every batch.
        tick: called for each image decoded, for a progress bar.
    """
    room = int(data.memory_gb * 1e9)
    shift = Shift.named(splits.augment, preprocess.size[0])
    copies = 2 if shift.mirror else 1
    count, side = len(splits.train), preprocess.size
    small = [c for c in (copies, 1) if stored_bytes(count, side, shift, c) <= room]
    if small and splits.augment != "timm":
        first: Loader = TrainLoader(
            decode(splits.train, preprocess, tick),
            preprocess,
            train.batch_size,
            shift,
            train.seed,
            mirrored_copy=small[0] == 2,
            share=share,
        )
    else:
        first = StreamLoader(
            splits.train,
            preprocess,
            train.batch_size,
            splits.augment,
            train.seed,
            workers=data.workers,
            share=share,
        )
    rest = [eval_loader(s, preprocess, data, share, tick) for s in (splits.validation, splits.test)]
    return Loaders(first, *rest)


def eval_loader(
    split: Split,
    preprocess: Preprocess,
    data: Data,
    share: Share = ALL,
    tick: Callable[[], None] = lambda: None,
) -> Loader:
    """Every image once, in order."""
    if len(split) * 3 * preprocess.size[0] * preprocess.size[1] <= data.memory_gb * 1e9:
        return EvalLoader(decode(split, preprocess, tick), preprocess, EVAL_BATCH, share)
    return StreamLoader(split, preprocess, EVAL_BATCH, workers=data.workers, share=share)


def some_images(split: Split, preprocess: Preprocess, count: int) -> Images:
    """``count`` images of a split, or all, evenly spread from its first to its last; decoded.

    Splits may be sorted by class, so that the first ones would be of few classes.
    """
    chosen = np.linspace(0, len(split) - 1, min(count, len(split))).round().astype(np.int64)
    return decode(split.subset(chosen), preprocess)
