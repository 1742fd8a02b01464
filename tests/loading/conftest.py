"""Images in memory, as a source would give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from edgekd.data import Images, Split
from edgekd.preprocess import Preprocess

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="session")
def split_of() -> Callable[[Sequence[int], int], Split]:
    """A split with these targets; each image is a square of noise of its own."""

    def make(targets: Sequence[int], side: int = 16) -> Split:
        def image(i: int) -> Image.Image:
            draw = np.random.default_rng(i)
            return Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8))

        return Split(np.asarray(targets, np.int64), image, lambda i: f"image {i}")

    return make


@pytest.fixture(scope="session")
def images_of() -> Callable[[int, int], Images]:
    """Decoded noise, in three classes."""

    def make(count: int, side: int) -> Images:
        draw = np.random.default_rng(count)
        pixels = draw.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        return Images(pixels, np.arange(count) % 3)

    return make


@pytest.fixture(scope="session")
def square() -> Callable[[int], Preprocess]:
    """ImageNet's mean and std at any size."""
    return lambda side: Preprocess((side, side), MEAN, STD)
