"""Batches decoded from disk as they are needed, for data that memory does not hold."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from edgekd.data import Batch, Indices, Pixels, Split
from edgekd.errors import DataError
from edgekd.loading.decode import open_rgb, pixels_of
from edgekd.loading.memory import ALL, Normalise, Share, Shift
from edgekd.preprocess import Preprocess

Key = tuple[int, int]
"""Epoch and image: what decides an augmentation, whichever worker draws it."""


SAMPLED = 4
"""Batches that stand for all of them in a digest."""


class StreamLoader:
    """The batches of :class:`~edgekd.loading.memory.TrainLoader` or ``EvalLoader``, from disk.

    Args:
        split: encoded images.
        preprocess: what the student expects.
        batch_size: images a step, over all processes.
        augment: ``none``, ``shift``, ``shift+flip``, or ``timm`` for its random-resized crop,
            mirroring and RandAugment.
        seed: of the shuffling and the augmentation; ``None`` takes every image once, in order.
        workers: processes that decode.
        share: this process's part of every batch.
    """

    def __init__(
        self,
        split: Split,
        preprocess: Preprocess,
        batch_size: int,
        augment: str = "none",
        seed: int | None = None,
        *,
        workers: int = 2,
        share: Share = ALL,
    ) -> None:
        self.targets = torch.from_numpy(split.targets)
        self._plan = _Plan(len(split), batch_size, seed, share)
        self._normalise = Normalise(preprocess)
        self._loader: DataLoader[Any] = DataLoader(
            _Decoded(split, preprocess, augment, seed or 0),
            batch_sampler=self._plan,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers else None,  # a split's closures do not pickle
            collate_fn=_stack,
            generator=torch.Generator(),  # else each epoch would draw from the global one
        )

    def __len__(self) -> int:
        return self._plan.steps

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """Batches ``start`` and after of epoch ``number``."""
        self._plan.go_to(number, start)
        try:
            for pixels, index in self._loader:
                yield Batch(self._normalise(pixels), self.targets[index], index)
        except DataError as error:  # a worker's comes with the worker's traceback in its text
            raise DataError(str(error).rpartition("DataError: ")[2].strip()) from None

    def digest(self) -> str:
        """Hash of the first batches of epoch 0; reading all the images would take an epoch."""
        found = hashlib.sha256()
        for batch in islice(self.epoch(0), SAMPLED):
            found.update(batch.image.contiguous().numpy().data)
        return found.hexdigest()


class _Plan:
    """Which images make up each batch, for the loader's sampler."""

    def __init__(self, count: int, batch_size: int, seed: int | None, share: Share) -> None:
        self._count, self._seed, self._share = count, seed, share
        self._batch_size = min(batch_size, count)
        whole = count // self._batch_size
        self.steps = whole if seed is not None else -(-count // self._batch_size)
        self._epoch = self._start = 0

    def go_to(self, epoch: int, start: int) -> None:
        self._epoch, self._start = epoch, start

    def __len__(self) -> int:
        return self.steps - self._start

    def __iter__(self) -> Iterator[list[Key]]:
        order: Indices = np.arange(self._count)
        if self._seed is not None:
            order = np.random.default_rng([self._seed, self._epoch]).permutation(self._count)
        for step in range(self._start, self.steps):
            first = step * self._batch_size + self._share.rank
            part = order[first : (step + 1) * self._batch_size : self._share.world]
            yield [(self._epoch, int(index)) for index in part]


class _Decoded(Dataset[Any]):
    def __init__(self, split: Split, preprocess: Preprocess, augment: str, seed: int) -> None:
        self._split, self._preprocess, self._seed = split, preprocess, seed
        self._shift = Shift.named(augment, preprocess.size[0])
        self._augment = _timm_augmentation(preprocess) if augment == "timm" else None

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, key: Key) -> tuple[Pixels, int]:
        epoch, index = key
        if self._augment is None:
            draw = np.random.default_rng([self._seed, epoch, index])
            return _shifted(
                pixels_of(self._split, index, self._preprocess), self._shift, draw
            ), index
        image = open_rgb(self._split, index)
        # timm's transforms draw from the global generators; give them their own for this image
        with torch.random.fork_rng(devices=[]):
            state = random.getstate(), np.random.get_state()
            seed = int(np.random.SeedSequence([self._seed, epoch, index]).generate_state(1)[0])
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            pixels = np.asarray(self._augment(image))  # (3, H, W) uint8
            random.setstate(state[0])
            np.random.set_state(state[1])
        return np.ascontiguousarray(pixels.transpose(1, 2, 0)), index


def _shifted(pixels: Pixels, shift: Shift, draw: np.random.Generator) -> Pixels:
    """One image moved by up to ``reach`` pixels over black, and perhaps mirrored."""
    if shift.reach:
        height, width, _ = pixels.shape
        padded = np.pad(pixels, ((shift.reach,) * 2, (shift.reach,) * 2, (0, 0)))
        y, x = draw.integers(0, 2 * shift.reach + 1, 2)
        pixels = padded[y : y + height, x : x + width]
    if shift.mirror and draw.integers(0, 2):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _timm_augmentation(preprocess: Preprocess) -> Callable[[Any], Any]:
    """From a PIL image to a tensor or, in older versions of timm, an array."""
    from timm.data import create_transform

    transform: Callable[[Any], Any] = create_transform(
        (3, *preprocess.size),
        is_training=True,
        use_prefetcher=True,  # leaves uint8: the batch is normalised as a whole
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        std=preprocess.std,
        auto_augment="rand-m9-mstd0.5-inc1",
    )
    return transform


def _stack(samples: list[tuple[Pixels, int]]) -> tuple[Tensor, Tensor]:
    pixels, index = zip(*samples, strict=True)
    return torch.from_numpy(np.stack(pixels)), torch.tensor(index)
