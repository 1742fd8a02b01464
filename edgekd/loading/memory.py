"""Batches from decoded images in memory: shifted, mirrored and normalised, a batch at a time.

On a CPU a slice of contiguous rows is copied several times faster than any vectorised gather, so
the images are stored padded (and mirrored, where mirroring is wanted), and one image of a batch is
one slice. Normalising is one multiply and one add over the whole batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekd.data import Batch, Images, Indices, Pixels
from edgekd.preprocess import Preprocess

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Shift:
    """Random translation by up to ``reach`` pixels, filled with black, and mirroring."""

    reach: int
    mirror: bool

    @classmethod
    def named(cls, name: str, side: int) -> Shift:
        """``none``, ``shift`` or ``shift+flip``; the reach is an eighth of the side."""
        return cls(0 if name == "none" else max(1, side // 8), name == "shift+flip")

    @property
    def views(self) -> int:
        """In how many ways an image may be shown."""
        return (2 * self.reach + 1) ** 2 * (2 if self.mirror else 1)

    def drawn(self, draw: np.random.Generator, count: int) -> tuple[Indices, Indices, Indices]:
        """Rows down, columns to the right and whether mirrored, of ``count`` images."""
        down, right = draw.integers(0, 2 * self.reach + 1, (2, count))
        mirror = draw.integers(0, 2, count) if self.mirror else np.zeros(count, np.int64)
        return down, right, mirror


@dataclass(frozen=True)
class Share:
    """Which part of each global batch this process takes: ``rank`` of ``world``."""

    rank: int = 0
    world: int = 1
    neighbours: int = 1
    """So many of ``world`` are on this machine, and share its memory."""


ALL = Share()
"""Of a single process."""


class Drawn(NamedTuple):
    """What an epoch shows: (N,) each, in the order of its batches."""

    order: Indices
    """Which images."""
    down: Indices
    """Where the window begins, in the padded image: rows."""
    right: Indices
    """Columns, before mirroring."""
    mirror: Indices
    """1 where the window is mirrored."""
    key: Indices
    """Which view of which image: ``order * views`` and the number of the view."""


class Normalise:
    """uint8 (B, H, W, 3) or (B, H * W, 3) to float32 (B, 3, H, W), channels last in memory.

    Multiplied and then added in two steps, on every device: one fused step would round once less.

    Args:
        preprocess: what the student expects.
        device: where the pixels are.
    """

    def __init__(self, preprocess: Preprocess, device: torch.device = CPU) -> None:
        self._size = height, width = preprocess.size
        self._scale = torch.tensor(preprocess.scale).repeat(height * width).to(device)
        self._shift = torch.tensor(preprocess.shift).repeat(height * width).to(device)

    def __call__(self, pixels: Pixels | Tensor) -> Tensor:
        pixels = torch.as_tensor(pixels)
        flat = pixels.reshape(len(pixels), len(self._scale)).float()
        flat.mul_(self._scale).add_(self._shift)
        return flat.view(len(pixels), *self._size, 3).permute(0, 3, 1, 2)


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
        fixed_views: show each image in so many ways, drawn once; 0 draws anew in each epoch.
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
        fixed_views: int = 0,
        mirrored_copy: bool = True,
        share: Share = ALL,
    ) -> None:
        self.targets, self.preprocess = torch.from_numpy(images.targets), preprocess
        self._shift, self._seed, self._share = shift, seed, share
        self._batch_size = min(batch_size, len(images))
        self._side = images.pixels.shape[1:3]
        self._copies = 2 if shift.mirror and mirrored_copy else 1
        self._stored = _stored(images.pixels, shift.reach, self._copies)
        self._normalise = Normalise(preprocess)
        self._fixed = _fixed(shift, seed, fixed_views, len(images)) if fixed_views else None
        self.views = fixed_views or shift.views

    def __len__(self) -> int:
        return len(self.targets) // self._batch_size

    @property
    def pixels(self) -> Pixels:
        """(N, H + 2r, W + 2r, 3): the images in their black border, none of them mirrored."""
        plain = self._stored[:: self._copies]
        return plain.reshape(len(plain), plain.shape[1], -1, 3)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Batches ``start`` and after of epoch ``number``."""
        order, down, right, mirror, key = self.drawn(number)
        for step in range(start, len(self)):
            part = self.part(step)
            index = order[part]
            pixels = self._cut(index, down[part], right[part], mirror[part])
            chosen = torch.from_numpy(index)
            image, keys = self._normalise(pixels), torch.from_numpy(key[part])
            yield Batch(image, self.targets[chosen], chosen, key=keys)

    def drawn(self, number: int) -> Drawn:
        """What epoch ``number`` shows."""
        draw = np.random.default_rng([self._seed, number])
        count = len(self.targets)
        order = draw.permutation(count)
        if self._fixed is not None:
            view = draw.integers(0, self.views, count)
            down, right, mirror = self._fixed[:, view, order].astype(np.int64)
        else:
            down, right, mirror = self._shift.drawn(draw, count)
            view = (down * (2 * self._shift.reach + 1) + right) * (1 + self._shift.mirror) + mirror
        return Drawn(order, down, right, mirror, order * self.views + view)

    def part(self, step: int) -> slice:
        """Which of an epoch's images this process takes in a step."""
        first = step * self._batch_size + self._share.rank
        return slice(first, (step + 1) * self._batch_size, self._share.world)

    def digest(self) -> str:
        """Hash of the pixels."""
        found = hashlib.sha256()
        for image in self._stored[:: self._copies]:  # whether there are mirrored ones or not
            found.update(image.data)
        return found.hexdigest()

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
        self.targets, self.preprocess = torch.from_numpy(images.targets), preprocess
        self.views = 1
        self.pixels, self._share = images.pixels, share
        self._batch_size = batch_size
        self._normalise = Normalise(preprocess)

    def __len__(self) -> int:
        return -(-len(self.pixels) // self._batch_size)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """Batches ``start`` and after; every epoch is the same."""
        for step in range(start, len(self)):
            part = self.part(step)
            chosen = torch.arange(part.start, part.stop, part.step)
            yield Batch(self._normalise(self.pixels[part]), self.targets[part], chosen)

    def part(self, step: int) -> slice:
        """Which images this process takes in a step."""
        first, end = step * self._batch_size, min((step + 1) * self._batch_size, len(self.pixels))
        return slice(min(first + self._share.rank, end), end, self._share.world)

    def digest(self) -> str:
        """Hash of the pixels."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels).data).hexdigest()


def stored_bytes(
    count: int, side: tuple[int, int], shift: Shift, copies: int, fixed_views: int = 0
) -> int:
    """Memory :class:`TrainLoader` takes for ``count`` images."""
    pixels = (side[0] + 2 * shift.reach) * (side[1] + 2 * shift.reach)
    return count * (copies * 3 * pixels + 3 * np.int16().itemsize * fixed_views)


def _fixed(shift: Shift, seed: int, views: int, count: int) -> NDArray[np.int16]:
    """The views of each image, (3, K, N): view v of them all is drawn from the seed and v."""
    made = np.empty((3, views, count), np.int16)
    for view in range(views):
        made[:, view] = shift.drawn(np.random.default_rng([seed, view, count]), count)
    return made


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
