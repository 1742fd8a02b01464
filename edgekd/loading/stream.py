"""Batches decoded from disk as they are needed, for data that memory does not hold."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from edgekd.data import Batch, Indices, Pixels, Split
from edgekd.loading.crew import Crew
from edgekd.loading.decode import open_rgb, pixels_of, some_images
from edgekd.loading.memory import ALL, CPU, Normalise, Share, Shift
from edgekd.preprocess import Preprocess

Place = tuple[int, int]
"""Epoch and step."""
SAMPLED = 256
"""Images that stand for all of them in a digest."""
AHEAD = 4
"""Batches of a training split that are decoded, or being decoded, at most; of the others, half."""


class StreamLoader:
    """The batches of :class:`~edgekd.loading.memory.TrainLoader` or ``EvalLoader``, from disk.

    Batches are decoded ahead, those of a training split into its next epoch. On a GPU they are
    normalised there: a byte of each colour travels, not four.

    Args:
        split: encoded images.
        preprocess: what the student expects.
        batch_size: images a step, over all processes.
        augment: ``none``, ``shift``, ``shift+flip``, or ``timm`` for its random-resized crop,
            mirroring and RandAugment.
        seed: of the shuffling and the augmentation; ``None`` takes every image once, in order.
        fixed_views: show each image in so many ways, drawn once; 0 draws anew in each epoch.
        crew: who decodes; in this process where nobody is given.
        share: this process's part of every batch.
        advice: what to do where images cannot be read as fast as they are learned from.
        device: of the training.
    """

    def __init__(
        self,
        split: Split,
        preprocess: Preprocess,
        batch_size: int,
        augment: str = "none",
        seed: int | None = None,
        *,
        fixed_views: int = 0,
        crew: Crew | None = None,
        share: Share = ALL,
        advice: str = "",
        device: torch.device = CPU,
    ) -> None:
        self.targets, self.advice = torch.from_numpy(split.targets), advice
        self._split, self._preprocess = split, preprocess
        self._plan = _Plan(len(split), batch_size, seed, share)
        shown = _Shown(split, preprocess, augment, seed or 0, fixed_views)
        self.views = shown.views
        self._device = device if device.type == "cuda" else CPU
        self._normalise = Normalise(preprocess, self._device)
        self._crew = crew or Crew(0)
        self._ahead = AHEAD if seed is not None else AHEAD // 2
        self._desk = self._crew.seat(shown, self._plan.rows, preprocess.size, self._ahead)
        self._asked: deque[Place] = deque()
        self._coming: Iterator[tuple[Place, Indices]] = iter(())
        self._digest = ""

    def __len__(self) -> int:
        return self._plan.steps

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """Batches ``start`` and after of epoch ``number``."""
        for step in range(start, len(self)):
            if not self._asked or self._asked[0] != (number, step):
                self._crew.drop(self._desk)
                self._asked.clear()
                self._coming = self._plan.since(number, step)
                self._look_ahead()
            self._asked.popleft()
            batch = self._batch(*self._crew.take(self._desk))
            self._look_ahead()
            yield batch

    @property
    def decoded(self) -> tuple[int, float]:
        """Images that this process's crew has decoded for this loader so far.

        And the seconds in which the crews of all processes together can decode as many.
        """
        alike = max(1, self._crew.workers) * self._plan.share.world
        return self._desk.decoded, self._desk.busy / alike

    @property
    def processes(self) -> tuple[int, ...]:
        """Numbers of the processes that decode."""
        return self._crew.processes

    def digest(self) -> str:
        """Hash of all names, classes and stamps, and of some images before they are drawn on.

        It does not depend on the seed, nor on how the images are batched. Reading all of the
        pixels would take an epoch.
        """
        if not self._digest:
            some = some_images(self._split, self._preprocess, SAMPLED).pixels
            found = hashlib.sha256(some.data)
            found.update(f"{self._split.digest()} {self._split.stamps()}".encode())
            self._digest = found.hexdigest()
        return self._digest

    def _look_ahead(self) -> None:
        for place, index in islice(self._coming, self._ahead - len(self._asked)):
            self._crew.ask(self._desk, place[0], index)
            self._asked.append(place)

    def _batch(self, pixels: Pixels, views: Indices, index: Indices) -> Batch:
        chosen, shown = torch.from_numpy(index), torch.from_numpy(pixels)
        key = chosen * self.views + torch.from_numpy(views) if self.views else None
        if self._device.type == "cuda":
            shown = shown.pin_memory().to(self._device, non_blocking=True)
        return Batch(self._normalise(shown), self.targets[chosen], chosen, key=key)


class _Plan:
    """Which images make up each batch."""

    def __init__(self, count: int, batch_size: int, seed: int | None, share: Share) -> None:
        self._count, self._seed, self.share = count, seed, share
        self._batch_size = min(batch_size, count)
        self.rows = -(-self._batch_size // share.world)
        whole = count // self._batch_size
        self.steps = whole if seed is not None else -(-count // self._batch_size)

    def since(self, epoch: int, start: int) -> Iterator[tuple[Place, Indices]]:
        """Batches from that one on: of all further epochs, or of the only one."""
        while True:
            order: Indices = np.arange(self._count)
            if self._seed is not None:
                order = np.random.default_rng([self._seed, epoch]).permutation(self._count)
            for step in range(start, self.steps):
                first = step * self._batch_size + self.share.rank
                last = (step + 1) * self._batch_size
                yield (epoch, step), order[first : last : self.share.world]
            if self._seed is None:
                return
            epoch, start = epoch + 1, 0


class _Shown:
    """One image as an epoch shows it, whichever process decodes it."""

    def __init__(
        self, split: Split, preprocess: Preprocess, augment: str, seed: int, fixed_views: int
    ) -> None:
        self._split, self._preprocess, self._seed = split, preprocess, seed
        self._shift = Shift.named(augment, preprocess.size[0])
        self._augment = _timm_augmentation(preprocess) if augment == "timm" else None
        self._fixed = fixed_views
        self.views = fixed_views or (self._shift.views if self._augment is None else 0)

    def __call__(self, epoch: int, index: int) -> tuple[Pixels, int]:
        """(H, W, 3), and the number of the view."""
        seeds, view = [self._seed, epoch, index], 0
        if self._fixed:
            view = int(np.random.default_rng(seeds).integers(0, self._fixed))
            seeds = [self._seed, view, index, 1]
        if self._augment is None:
            pixels = pixels_of(self._split, index, self._preprocess)
            shown, drawn = _shifted(pixels, self._shift, np.random.default_rng(seeds))
            return shown, view if self._fixed else drawn
        return self._augmented(index, seeds), view

    def _augmented(self, index: int, seeds: list[int]) -> Pixels:
        assert self._augment is not None
        image = open_rgb(self._split, index)
        # timm's transforms draw from the global generators; give them their own for this image
        with torch.random.fork_rng(devices=[]):
            state = random.getstate(), np.random.get_state()
            seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            pixels = np.asarray(self._augment(image))  # (3, H, W) uint8
            random.setstate(state[0])
            np.random.set_state(state[1])
        return pixels.transpose(1, 2, 0)


def _shifted(pixels: Pixels, shift: Shift, draw: np.random.Generator) -> tuple[Pixels, int]:
    """One image moved by up to ``reach`` pixels over black, and perhaps mirrored; and which view.

    The number of a view is the one of :class:`~edgekd.loading.memory.TrainLoader`.
    """
    view = 0
    if shift.reach:
        height, width, _ = pixels.shape
        padded = np.pad(pixels, ((shift.reach,) * 2, (shift.reach,) * 2, (0, 0)))
        y, x = draw.integers(0, 2 * shift.reach + 1, 2)
        pixels = padded[y : y + height, x : x + width]
        view = int(y) * (2 * shift.reach + 1) + int(x)
    if shift.mirror:
        turned = int(draw.integers(0, 2))
        pixels = pixels[:, ::-1] if turned else pixels
        view = 2 * view + turned
    return pixels, view


def _timm_augmentation(preprocess: Preprocess) -> Callable[[Any], Any]:
    """From a PIL image to a tensor or, in older versions of timm, an array."""
    from timm.data import create_transform

    made: Any = create_transform(
        (3, *preprocess.size),
        is_training=True,
        use_prefetcher=True,  # leaves uint8: the batch is normalised as a whole
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        std=preprocess.std,
        auto_augment="rand-m9-mstd0.5-inc1",
    )
    for step in made.transforms:
        for operation in getattr(step, "ops", ()):
            if operation.name == "PosterizeIncreasing":
                operation.aug_fn = _keeping_a_bit(operation.aug_fn)
    transform: Callable[[Any], Any] = made
    return transform


def _keeping_a_bit(posterize: Callable[..., Any]) -> Callable[..., Any]:
    """At its strongest timm keeps none: a black image, which Pillow refuses to make from 13 on."""
    return lambda image, bits, **options: posterize(image, max(bits, 1), **options)
