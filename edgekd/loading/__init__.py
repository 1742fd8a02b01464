"""Loading: from a source to batches, in memory where it fits, streamed where it does not."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

from edgekd.data import Loader, Split
from edgekd.loading.apart import check_apart
from edgekd.loading.crew import Crew
from edgekd.loading.decode import decode, some_images
from edgekd.loading.memory import ALL, CPU, EvalLoader, Share, Shift, TrainLoader, stored_bytes
from edgekd.loading.on_gpu import placed
from edgekd.loading.splits import Splits, check_labels, open_splits
from edgekd.loading.stream import StreamLoader
from edgekd.preprocess import Preprocess
from edgekd.recipe import Data, Train

__all__ = [
    "Loaders",
    "Share",
    "Splits",
    "check_apart",
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
    device: torch.device = CPU,
) -> Loaders:
    """Make the three loaders; those that fit into ``data.memory_gb`` together are decoded now.

    The others are streamed, by one crew of processes for all of them. Whether the training images
    are, which are then drawn in another way, does not depend on how many processes there are.

    Args:
        splits: the images.
        preprocess: what the student expects.
        data: how to augment, and how much memory to take.
        train: batch size and seed.
        share: this process's part of every batch.
        tick: called for each image decoded, for a progress bar.
        device: of the training; on a GPU, batches are made there.
    """
    shift, seed = Shift.named(splits.augment, preprocess.size[0]), data.order_of(train.seed)
    views = data.teacher_views
    if splits.augment != "timm":
        views = min(views, shift.views)
    mirrored = shift.mirror and device.type != "cuda"  # where one copy is as fast
    room = int(data.memory_gb * 1e9)
    kept = _kept(splits, preprocess.size, shift, mirrored, views, room, share.neighbours)
    crew = Crew(data.workers)
    if kept.copies:
        first: Loader = TrainLoader(
            decode(splits.train, preprocess, tick),
            preprocess,
            train.batch_size,
            shift,
            seed,
            fixed_views=views,
            mirrored_copy=kept.copies == 2,
            share=share,
        )
    else:
        first = StreamLoader(
            splits.train,
            preprocess,
            train.batch_size,
            splits.augment,
            seed,
            fixed_views=views,
            crew=crew,
            share=share,
            advice=_advice(splits, preprocess.size, shift, data, share.neighbours),
            device=device,
        )
    rest = preprocess, crew, share, tick, device
    validation = _eval_loader(splits.validation, kept.validation, *rest)
    test = _eval_loader(splits.test, kept.test, *rest)
    return Loaders(*placed((first, validation, test), device))


def eval_loader(
    split: Split,
    preprocess: Preprocess,
    data: Data,
    share: Share = ALL,
    tick: Callable[[], None] = lambda: None,
    device: torch.device = CPU,
) -> Loader:
    """Every image once, in order; for who computes on ``device``."""
    here = _bytes(split, preprocess.size) <= data.memory_gb * 1e9
    return _eval_loader(split, here, preprocess, Crew(data.workers), share, tick, device)


def _eval_loader(
    split: Split,
    here: bool,
    preprocess: Preprocess,
    crew: Crew,
    share: Share,
    tick: Callable[[], None],
    device: torch.device,
) -> Loader:
    if here:
        return EvalLoader(decode(split, preprocess, tick), preprocess, EVAL_BATCH, share)
    return StreamLoader(split, preprocess, EVAL_BATCH, crew=crew, share=share, device=device)


@dataclass(frozen=True)
class _Kept:
    """What is kept in memory."""

    copies: int
    """Of each training image; 2: a mirrored one, too; 0: they are streamed."""
    validation: bool
    test: bool


def _kept(
    splits: Splits,
    side: tuple[int, int],
    shift: Shift,
    mirrored: bool,
    views: int,
    room: int,
    neighbours: int,
) -> _Kept:
    """What fits into ``room`` bytes: the training images first, a mirrored copy of them last.

    The training images are all kept by each process if one alone would keep them, for what is
    streamed is drawn in another way; the rest, which shows the same either way, is kept where it
    fits into a process's part of the machine.
    """
    own = room // neighbours
    count, rest = len(splits.train), [_bytes(s, side) for s in (splits.validation, splits.test)]
    copies = 0
    if splits.augment != "timm":
        if mirrored and stored_bytes(count, side, shift, 2, views) + sum(rest) <= own:
            copies = 2
        elif stored_bytes(count, side, shift, 1, views) <= room:
            copies = 1
    own -= stored_bytes(count, side, shift, copies, views) if copies else 0
    validation = rest[0] <= own
    return _Kept(copies, validation, rest[1] <= own - validation * rest[0])


def _bytes(split: Split, side: tuple[int, int]) -> int:
    return len(split) * 3 * side[0] * side[1]


def _advice(
    splits: Splits, side: tuple[int, int], shift: Shift, data: Data, neighbours: int
) -> str:
    """What to do where the training images are not read as fast as they are learned from."""
    ways, cpus = [], os.cpu_count() or 1
    if data.workers * neighbours < cpus:
        ways.append(f"raise data.workers (now {data.workers}; there are {cpus} CPUs)")
    ways += [f"lower data.size (now {side[0]})"] if side[0] > 32 else []
    views = min(data.teacher_views, shift.views)
    need = stored_bytes(len(splits.train), side, shift, 1, views)
    need += _bytes(splits.validation, side) + _bytes(splits.test, side)
    total = need * neighbours / 1e9  # each process keeps all
    if splits.augment != "timm" and total < _physical_gb() / 2:
        enough = f"{_rounded_up(total):g}"
        ways.append(f"raise data.memory_gb (now {data.memory_gb:g}) to {enough}, and stream none")
    return ", or ".join(ways)


def _rounded_up(number: float) -> float:
    """To two digits."""
    unit = 10.0 ** (math.floor(math.log10(number)) - 1)
    return math.ceil(number / unit) * unit


def _physical_gb() -> float:
    """Memory of the machine; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (AttributeError, OSError, ValueError):
        return 0.0
