"""Decode: from an encoded image to the uint8 pixels every runtime is shown."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgekd.data import Images, Pixels, Split
from edgekd.errors import DataError
from edgekd.preprocess import Preprocess
from edgekd.shortage import room_for_threads

THREADS = 4
# Pillow refuses twice as many pixels; what it would say of the images before that helps nobody.
# Said once, for good: catch_warnings around each image would not be safe in threads
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
MOST_OBLONG = 500
"""Times as long as wide an image may be: enlarged to cover an input, it has as many squares."""
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def decode(split: Split, preprocess: Preprocess, tick: Callable[[], None] = lambda: None) -> Images:
    """Decode a split into memory, resized and cropped as ``preprocess`` says.

    Raises:
        DataError: an image that cannot be read, by name.
    """
    pixels = np.empty((len(split), *preprocess.size, 3), np.uint8)
    for i, image in enumerate(_in_order(split, preprocess)):
        pixels[i] = image
        tick()
    return Images(pixels, split.targets)


def some_images(split: Split, preprocess: Preprocess, count: int) -> Images:
    """``count`` images of a split, or all, evenly spread from its first to its last; decoded.

    Splits may be sorted by class, so that the first ones would be of few classes.
    """
    chosen = np.linspace(0, len(split) - 1, min(count, len(split))).round().astype(np.int64)
    return decode(split.subset(chosen), preprocess)


def pixels_of(split: Split, index: int, preprocess: Preprocess) -> Pixels:
    """One image as (H, W, 3) uint8."""
    return np.asarray(fit(open_rgb(split, index), preprocess))


def open_rgb(split: Split, index: int) -> Image.Image:
    """One image as it is shown upright, in RGB.

    Raises:
        DataError: it cannot be read, with its name and the reason.
    """
    try:
        return as_rgb(ImageOps.exif_transpose(split.image(index)))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, UnidentifiedImageError):  # which tells an address in memory
            reason = "it is of no format that Pillow knows"
        raise DataError(
            f"cannot read image {split.name(index)}: {reason}. "
            "Expected a whole image file; replace it or take it out."
        ) from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB: 16-bit greys are scaled, transparency is left out.

    Raises:
        ValueError: pixels whose range nobody tells: fractions, or numbers beyond 16 bits; or an
            image so long that there would be no end to enlarging it.
    """
    if max(image.size) > MOST_OBLONG * min(image.size):
        raise ValueError(
            f"it is {image.width}x{image.height} pixels, more than {MOST_OBLONG} times as long as "
            "wide"
        )
    if image.mode == "F":
        raise ValueError("its pixels are fractions; expected whole numbers of 8 or 16 bits")
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("its pixels are beyond 16 bits; expected 8 or 16 bits")
        image = Image.fromarray((grey >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns where this step is left out
    return image.convert("RGB")


def fit(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """Resize so that the crop covers ``crop_pct``, then cut out the centre.

    Sizes and the place of the crop are rounded as timm and torchvision round them; where it is
    larger than the image (``crop_pct`` above 1), the image is framed in black.
    """
    height, width = preprocess.size
    if image.size == (width, height) and preprocess.crop_pct == 1.0:
        return image
    h, w = (max(1, math.floor(side / preprocess.crop_pct)) for side in preprocess.size)
    if w * image.height >= h * image.width:
        h = w * image.height // image.width
    else:
        w = h * image.width // image.height
    image = image.resize((w, h), FILTERS.get(preprocess.interpolation, Image.Resampling.BICUBIC))
    left, top = _start(w, width), _start(h, height)
    return image.crop((left, top, left + width, top + height))


def _start(side: int, crop: int) -> int:
    """Where the crop begins; below 0 where it is the larger one."""
    return round((side - crop) / 2) if side >= crop else -((crop - side) // 2)


def _in_order(split: Split, preprocess: Preprocess) -> Iterator[Pixels]:
    """Decode ahead in threads (Pillow works outside the interpreter's lock), a chunk at a time."""
    chunk = 256
    room_for_threads(THREADS)
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(split), chunk):
            part = range(start, min(start + chunk, len(split)))
            yield from pool.map(lambda i: pixels_of(split, i, preprocess), part)
