"""Data: batches for training, decoded images for everything after it.

A plug-in on this shelf is a function ``(rest) -> Source``: where the encoded images are, for what
stands behind its name in ``--data NAME/REST``. ``edgekd.loading`` divides, decodes and batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Of Pillow's, what images are read in; of the others, one starts a program on what it reads."""


@dataclass(frozen=True)
class Batch:
    """What one training step sees."""

    image: Tensor
    """(B, 3, H, W) float32, normalised for the student, channels last in memory."""
    target: Tensor
    """(B,) int64."""
    index: Tensor
    """(B,) int64: which images of the split these are."""
    progress: float = 0.0
    """How far the training is, in [0, 1]."""
    key: Tensor | None = None
    """(B,) int64, always on the CPU: which view of which image each one is, ``index * views +
    view`` of the loader's ``views``; ``None`` where they cannot be counted."""

    def to(self, device: Any) -> Batch:
        """The same on another torch device."""
        image, target, index = (
            tensor.to(device, non_blocking=True) for tensor in (self.image, self.target, self.index)
        )
        return Batch(image, target, index, self.progress, self.key)


@dataclass(frozen=True)
class Split:
    """Encoded images, opened one by one."""

    targets: Indices
    """(N,) class of each image."""
    image: Callable[[int], Image]
    """Open image i: any size, any mode."""
    name: Callable[[int], str]
    """What to call image i in a message."""
    stamp: Callable[[int], str] = lambda row: ""
    """What changes when the file of image i is written anew; empty where nobody can tell."""

    def __len__(self) -> int:
        return len(self.targets)

    def digest(self) -> str:
        """Hash of the class and the name of every image, one after the other: they may be many."""
        found = hashlib.sha256(self.targets.astype(np.int64).tobytes())
        for row in range(len(self)):
            found.update(f"{self.name(row)}\n".encode(errors="surrogateescape"))
        return found.hexdigest()

    def stamps(self) -> str:
        """Hash of the stamps of all images."""
        found = hashlib.sha256()
        for row in range(len(self)):
            found.update(f"{self.stamp(row)}\n".encode())
        return found.hexdigest()

    def subset(self, indices: Indices) -> Split:
        """The images at ``indices``, in that order."""
        return Split(
            self.targets[indices],
            lambda i: self.image(int(indices[i])),
            lambda i: self.name(int(indices[i])),
            lambda i: self.stamp(int(indices[i])),
        )


@dataclass(frozen=True)
class Source:
    """A data set as it comes: its class names and the splits it has."""

    labels: tuple[str, ...]
    splits: Mapping[str, Split]
    """``train``, and ``validation`` and ``test`` where the source has them."""
    augment: str = "shift+flip"
    """What suits these images: digits, for instance, must not be mirrored."""
    notes: tuple[str, ...] = field(default_factory=tuple)
    """What the reader decided and the user should know."""


@dataclass(frozen=True)
class Images:
    """Decoded images of one split, all of one size."""

    pixels: Pixels
    """(N, H, W, 3)."""
    targets: Indices
    """(N,)."""

    def __len__(self) -> int:
        return len(self.targets)


class Loader(Protocol):
    """Batches of one split. The same epoch is always the same batches, from any start."""

    targets: Tensor
    """(N,) int64: class of each image of the split."""
    views: int
    """In how many ways an image may be shown; 0 where they cannot be counted."""

    def __len__(self) -> int:
        """Batches an epoch."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Batches ``start`` and after of epoch ``number``."""

    def digest(self) -> str:
        """Hash of the pixels; of images that are streamed, of names, stamps and some of them."""
