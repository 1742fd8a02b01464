"""Decoding on the device, for the clock ``end_to_end``: from an image file's bytes to pixels.

The pixels are those that edgekd makes on the host, bit for bit, where Pillow is the same: upright
as its EXIF data says, in RGB, resized so that the crop covers ``crop_pct``, and cut to size.
"""

from __future__ import annotations

import io
import math
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Mapping, Tuple

import numpy as np

from edgekd.agent.failures import AgentError

FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")
FORMATS = ("BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
MOST_OBLONG = 500


@dataclass(frozen=True)
class Fit:
    """How an image is brought to a network's size."""

    size: Tuple[int, int]
    """Height and width in pixels."""
    interpolation: str
    crop_pct: float

    @classmethod
    def from_table(cls, table: Mapping[str, Any], size: Tuple[int, int]) -> Fit:
        """Read ``size``, ``interpolation`` and ``crop_pct``; what is missing is as usual.

        Args:
            table: the preprocessing.
            size: of the network's input.
        """
        try:
            height, width = (int(side) for side in table.get("size") or size)
            share = float(table.get("crop_pct", 1.0))
            if min(height, width) < 1 or not share > 0:
                raise ValueError("out of range")
        except (TypeError, ValueError) as error:
            raise AgentError(
                "input",
                f"the preprocessing is {dict(table)!r}; expected size (height and width) and "
                "crop_pct (above 0) to decode images with.",
            ) from error
        return cls((height, width), str(table.get("interpolation", "bilinear")), share)


def pillow() -> Tuple[Any, Any]:
    """Pillow's module of images, and what turns an image upright.

    Raises:
        AgentError: Pillow is not installed here.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise AgentError(
            "module",
            f"{sys.executable} (Python {sys.version.split()[0]}) has no Pillow, which the "
            "clock end_to_end decodes images with. Install it on the device: "
            f"{sys.executable} -m pip install pillow",
        ) from error
    return Image, ImageOps.exif_transpose


class Decoder:
    """Decodes as a network expects it.

    Raises:
        AgentError: Pillow is not installed here.
    """

    def __init__(self, how: Fit) -> None:
        self.how = how
        self._image, self._upright = pillow()
        filters = getattr(self._image, "Resampling", self._image)  # an enumeration since Pillow 9.1
        name = how.interpolation if how.interpolation in FILTERS else "bicubic"
        self._filter = getattr(filters, name.upper())

    def __call__(self, data: Any) -> Any:
        """An image file's bytes as pixels, uint8 (H, W, 3)."""
        try:
            with self._image.open(io.BytesIO(data)) as image:
                if image.format not in FORMATS:  # some of Pillow's start programs to read them
                    raise ValueError(f"{image.format} is no format of images here")
                return np.asarray(self._fit(self._as_rgb(self._upright(image))))
        except (OSError, SyntaxError, ValueError, self._image.DecompressionBombError) as error:
            raise AgentError(
                "input",
                f"an image cannot be decoded on this device: {error}. Pillow "
                "here may lack its format (python3 -m pip install --upgrade pillow).",
            ) from error

    def _as_rgb(self, image: Any) -> Any:
        """Any mode to RGB: 16-bit greys are scaled, transparency is left out."""
        if max(image.size) > MOST_OBLONG * min(image.size):
            raise ValueError(f"{image.width}x{image.height} pixels are too long to enlarge")
        if image.mode == "F":
            raise ValueError("its pixels are fractions; expected 8 or 16 bits")
        if image.mode.startswith("I"):
            grey = np.asarray(image)
            if grey.min() < 0 or grey.max() > 65535:
                raise ValueError("its pixels are beyond 16 bits; expected 8 or 16 bits")
            image = self._image.fromarray((grey >> 8).astype(np.uint8))
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # Pillow warns where this step is left out
        return image.convert("RGB")

    def _fit(self, image: Any) -> Any:
        """Resize, then cut out the centre; rounded, and framed, as timm and torchvision do it."""
        height, width = self.how.size
        if image.size == (width, height) and self.how.crop_pct == 1.0:
            return image
        h, w = (max(1, math.floor(side / self.how.crop_pct)) for side in self.how.size)
        if w * image.height >= h * image.width:
            h = w * image.height // image.width
        else:
            w = h * image.width // image.height
        image = image.resize((w, h), self._filter)
        left, top = _start(w, width), _start(h, height)
        return image.crop((left, top, left + width, top + height))


def _start(side: int, crop: int) -> int:
    """Where the crop begins; below 0 where it is larger, which Pillow frames in black."""
    return round((side - crop) / 2) if side >= crop else -((crop - side) // 2)


def read_encoded(path: Path, count: int) -> List[Any]:
    """The first image files of a zip, as they are: uint8, one dimension each.

    Raises:
        AgentError: it is no zip, or has none.
    """
    try:
        with zipfile.ZipFile(str(path)) as file:
            names = [one for one in file.namelist() if not one.endswith("/")][:count]
            found = [np.frombuffer(file.read(name), np.uint8) for name in names]
    except (OSError, zipfile.BadZipFile) as error:
        raise AgentError(
            "input", f"{path.name} cannot be read as a zip of image files: {error}."
        ) from error
    if not found:
        raise AgentError("input", f"{path.name} is a zip without image files; expected one or more")
    return found
