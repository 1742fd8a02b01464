"""Batches from decoded images in memory: shifted, mirrored and normalised, a batch at a time.

On a CPU a slice of contiguous rows is copied several times faster than any vectorised gather, so
the images are stored padded (and mirrored, where mirroring is wanted), and one image of a batch is
one slice. Normalising is one multiply and one add over the whole batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgekd.data import Batch, Images, Indices, Pixels
from edgekd.preprocess import Preprocess


@dataclass(frozen=True)
class Shift:
    """Random translation by up to ``reach`` pixels, filled with black, and mirroring."""

    reach: int
    mirror: bool

    @classmethod
    def named(cls, name: str, side: int) -> Shift:
        """``none``, ``shift`` or ``shift+flip``; the reach is an eighth of the side."""
        return cls(0 if name == "none" else max(1, side // 8), name == "shift+flip")


@dataclass(frozen=True)
class Share:
    """Which part of each global batch this process takes: ``rank`` of ``world``."""

    rank: int = 0
    world: int = 1


ALL = Share()
"""Of a single process."""


class Normalise:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W), channels last in memory."""

    def __init__(self, preprocess: Preprocess) -> None:
        height, width = preprocess.size
        self._scale = torch.tensor(preprocess.scale).repeat(height * width)
        self._shift = torch.tensor(preprocess.shift).repeat(height * width)

    def __call__(self, pixels: Pixels | Tensor) -> Tensor:
        pixels = torch.as_tensor(pixels)
        flat = pixels.reshape(len(pixels), len(self._scale)).float()
        flat.mul_(self._scale).add_(self._shift)
        return flat.view(pixels.shape).permute(0, 3, 1, 2)


class TrainLoader:
    """Shuffled, augmented batches; the last incomplete one is dropped.

    What is drawn for epoch e depends on the seed and e alone: training that goes on after a kill
    sees the very batches it would have seen.

    Args:
        images: decoded, all of the preprocess's size.
        preprocess: what the student expects.
        batch_size: images a step, over all processes; at most ``len(images)``.
        shift: the augmentation.
        seed: of the shuffling and the augmentation.
        mirrored_copy: keep a mirrored copy in memory, which is faster and takes twice the space.
        share: this process's part of every batch.
    """

    def __init__(
        self,
        images: Images,
        preprocess: Preprocess,
        batch_size: int,
        shift: Shift,
        seed: int,
        *,
        mirrored_copy: bool = True,
        share: Share = ALL,
    ) -> None:
        self.targets = torch.from_numpy(images.targets)
        self._shift, self._seed, self._share = shift, seed, share
        self._batch_size = min(batch_size, len(images))
        self._side = images.pixels.shape[1:3]
        self._copies = 2 if shift.mirror and mirrored_copy else 1
        self._stored = _stored(images.pixels, shift.reach, self._copies)
        self._normalise = Normalise(preprocess)

    def __len__(self) -> int:
        return len(self.targets) // self._batch_size

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Batches ``start`` and after of epoch ``number``."""
        draw = np.random.default_rng([self._seed, number])
        count, reach = len(self.targets), self._shift.reach
        order = draw.permutation(count)
        down, right = draw.integers(0, 2 * reach + 1, (2, count))
        mirror = draw.integers(0, 2, count) if self._shift.mirror else np.zeros(count, np.int64)
        for step in range(start, len(self)):
            first = step * self._batch_size + self._share.rank
            part = slice(first, (step + 1) * self._batch_size, self._share.world)
            index = order[part]
            pixels = self._cut(index, down[part], right[part], mirror[part])
            chosen = torch.from_numpy(index)
            yield Batch(self._normalise(pixels), self.targets[chosen], chosen)

    def digest(self) -> str:
        """Hash of the pixels."""
        return hashlib.sha256(self._stored.data).hexdigest()

    def _cut(self, index: Indices, down: Indices, right: Indices, mirror: Indices) -> Pixels:
        """Copy one window of each stored image, as (B, H, W, 3)."""
        height, width = self._side
        out = np.empty((len(index), height, width * 3), np.uint8)
        rows = index * self._copies
        if (
            self._copies == 2
        ):  # cut and then mirrored: in the mirror, the window is on the other side
            rows, right = rows + mirror, np.where(mirror, 2 * self._shift.reach - right, right)
        places = zip(rows.tolist(), down.tolist(), (right * 3).tolist(), strict=True)
        for k, (row, y, x) in enumerate(places):
            out[k] = self._stored[row, y : y + height, x : x + width * 3]
        pixels = out.reshape(len(index), height, width, 3)
        if self._copies == 1 and self._shift.mirror:
            turned = np.flatnonzero(mirror)
            pixels[turned] = pixels[turned, :, ::-1]
        return pixels


class EvalLoader:
    """Every image once, in order, as the preprocess shows it; the last batch may be smaller."""

    def __init__(
        self,
        images: Images,
        preprocess: Preprocess,
        batch_size: int = 256,
        share: Share = ALL,
    ) -> None:
        self.targets = torch.from_numpy(images.targets)
        self._images, self._share = images, share
        self._batch_size = batch_size
        self._normalise = Normalise(preprocess)

    def __len__(self) -> int:
        return -(-len(self._images) // self._batch_size)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """Batches ``start`` and after; every epoch is the same."""
        for step in range(start, len(self)):
            end = min((step + 1) * self._batch_size, len(self._images))
            index = np.arange(step * self._batch_size + self._share.rank, end, self._share.world)
            image, chosen = self._normalise(self._images.pixels[index]), torch.from_numpy(index)
            yield Batch(image, self.targets[chosen], chosen)

    def digest(self) -> str:
        """Hash of the pixels."""
        return hashlib.sha256(np.ascontiguousarray(self._images.pixels).data).hexdigest()


def stored_bytes(count: int, side: tuple[int, int], shift: Shift, copies: int) -> int:
    """Memory :class:`TrainLoader` takes for ``count`` images."""
    return count * copies * 3 * (side[0] + 2 * shift.reach) * (side[1] + 2 * shift.reach)


def _stored(pixels: Pixels, reach: int, copies: int) -> Pixels:
    """Pad with black and interleave mirrored copies: (N * copies, H + 2r, (W + 2r) * 3)."""
    count, height, width, _ = pixels.shape
    rows, columns = height + 2 * reach, width + 2 * reach
    stored = np.zeros((count, copies, rows, columns, 3), np.uint8)
    inner = stored[:, :, reach : reach + height, reach : reach + width]
    inner[:, 0] = pixels
    if copies == 2:
        inner[:, 1] = pixels[:, :, ::-1]
    return stored.reshape(count * copies, rows, columns * 3)
