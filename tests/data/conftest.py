"""Small folders of images, made on the spot."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Picture = Callable[[int], Image.Image]
Classes = Callable[[Path, dict[str, int]], Path]


@pytest.fixture(scope="session")
def picture() -> Picture:
    """A picture of its own for each number: 12 wide, 10 high, RGB."""

    def make(number: int) -> Image.Image:
        pixels = np.random.default_rng(number).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    return make


@pytest.fixture(scope="session")
def classes(picture: Picture) -> Classes:
    """Write so many PNG files of each class; no two pictures are alike."""

    def make(folder: Path, counts: dict[str, int]) -> Path:
        for place, (name, count) in enumerate(sorted(counts.items())):
            (folder / name).mkdir(parents=True)
            for i in range(count):
                picture(100 * place + i).save(folder / name / f"{i}.png")
        return folder

    return make


@pytest.fixture(scope="session")
def tarred() -> Callable[[Path, str], Path]:
    """Pack a folder into a tar beside it."""

    def make(folder: Path, inner: str) -> Path:
        path = folder.with_name(f"{folder.name}.tar")
        with tarfile.open(path, "w") as tar:
            tar.add(folder, arcname=inner)
        return path

    return make
