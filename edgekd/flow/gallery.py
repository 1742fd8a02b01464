"""The images of a call, in the forms that devices are shown them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from edgekd.artifact import read_manifest
from edgekd.files import sha256
from edgekd.flow.grouping import TAKEN
from edgekd.profiling.pictures import pack
from edgekd.recipe import Data

if TYPE_CHECKING:
    from PIL.Image import Image

    from edgekd.data import Images

SplitName = Literal["test", "validation"]
FEEDS = 8
"""Batches that the clock ``end_to_end`` cycles through."""
SUFFIXES = {
    "BMP": ".bmp",
    "GIF": ".gif",
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "PPM": ".ppm",
    "TIFF": ".tif",
    "WEBP": ".webp",
}


@dataclass(frozen=True)
class Shown:
    """All images as networks of one kind take them."""

    images: Path
    """A ``.npy``, uint8 (N, H, W, 3)."""
    targets: Path
    """A ``.npy``, int64 (N,)."""
    sha256: str
    """Of the images."""

    def read(self) -> Images:
        """Images and classes, mapped into memory."""
        import numpy as np

        from edgekd.data import Images

        return Images(
            np.load(self.images, mmap_mode="r", allow_pickle=False),
            np.load(self.targets, allow_pickle=False),
        )


class Gallery:
    """Images of a split, opened once and decoded once for each way to take them.

    Args:
        folder: for the files that are made of them.
        data: where they are.
        models: artifacts whose classes they have to be.
        split: ``test``, or ``validation`` for what is chosen by.

    Raises:
        DataError: images of other classes, or none.
    """

    def __init__(
        self, folder: Path, data: Data, models: Sequence[Path], split: SplitName = "test"
    ) -> None:
        from edgekd.loading import check_labels, open_splits

        self.data, self._folder = data, folder
        self._splits = open_splits(data)
        self._split = self._splits.test if split == "test" else self._splits.validation
        self._shown: dict[str, Shown] = {}
        for path in models:
            check_labels(self._splits, read_manifest(path)["labels"], str(path))

    @property
    def labels(self) -> tuple[str, ...]:
        return self._splits.labels

    def name(self, index: int) -> str:
        """What an image is called: the last two parts of its path, which are the same anywhere."""
        return "/".join(PurePath(self._split.name(index)).parts[-2:])

    def shown(self, section: Mapping[str, Any]) -> Shown:
        """All images, decoded as the ``input`` section of a manifest says."""
        import numpy as np

        from edgekd.loading.decode import decode
        from edgekd.preprocess import Preprocess

        key = json.dumps([section[name] for name in TAKEN])
        if key not in self._shown:
            made = decode(self._split, Preprocess.from_dict(section))
            folder = self._folder / str(len(self._shown))
            folder.mkdir()
            # the same arrays are the same bytes, so a device that has them needs them no more
            np.save(folder / "images.npy", made.pixels)
            np.save(folder / "targets.npy", made.targets)
            images = folder / "images.npy"
            self._shown[key] = Shown(images, folder / "targets.npy", sha256(images))
        return self._shown[key]

    def encoded(self, batch_size: int = 1) -> Path:
        """As many images as are timed, as they are on the disk and spread over the classes."""
        split = self._split
        count = min(FEEDS * batch_size, len(split))
        file = self._folder / f"encoded-{count}.zip"
        if not file.exists():
            by_class = sorted(range(len(split)), key=lambda index: int(split.targets[index]))
            chosen = [by_class[place * len(split) // count] for place in range(count)]
            pack(file, (_encoded(split.image(index)) for index in chosen))
        return file


def _encoded(image: Image) -> tuple[str, bytes]:
    """Suffix and content of an image's file; one that never was in a file is made a PNG."""
    file = getattr(image, "fp", None)  # what Pillow reads from, until the pixels are asked for
    if file is not None and image.format in SUFFIXES:
        file.seek(0)
        return SUFFIXES[image.format], file.read()
    made = BytesIO()
    image.save(made, "PNG")
    return ".png", made.getvalue()
