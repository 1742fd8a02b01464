"""Pictures from files or a camera, as the model was trained to see them: upright, RGB, to size.

``.ppm`` (P6) and ``.npy`` (uint8, one picture or several, with the pixels as the model takes them)
are read by numpy alone; other files by Pillow, cameras by OpenCV. Resizing is Pillow's, to the bit:
by Pillow where it is installed and does it as the release in config.json, and else by numpy.
"""

from __future__ import annotations

import math
import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, Iterator, List, Match, Sequence, Tuple

import numpy as np

PILLOW = "Pillow is needed for all but .ppm and .npy files: python3 -m pip install pillow"
OPENCV = "OpenCV is needed for cameras: python3 -m pip install opencv-python-headless"
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".npy", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
MOST_OBLONG = 500  # times as long as wide: what is enlarged to cover an input gets no thinner
PPM = re.compile(rb"P6\s+(?:#[^\n]*\n\s*)*(\d+)\s+(?:#[^\n]*\n\s*)*(\d+)\s+(?:#[^\n]*\n\s*)*255\s")
REACH = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}
UNIT = 2.0**22  # Pillow's weights are integers, in these parts of 1


class UnreadableError(Exception):
    """Why there is no answer to a picture."""


class Cut(np.ndarray):
    """Pixels that are as the model takes them already."""


def one_line(text: str) -> str:
    """A text whose line ends and what else cannot be printed are written out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def pictures(paths: Sequence[str], size: Sequence[int]) -> Iterator[Tuple[str, Any]]:
    """Name and pixels (h, w, 3) uint8 of each picture; where it cannot be read, the error.

    Those of .npy files have to be of ``size``, height and width, as nothing resizes them.
    """
    for file in _files([Path(path) for path in paths]):
        try:
            found = _read(file, size)
        except UnreadableError as error:
            yield str(file), error
            continue
        except Exception as error:  # damaged files make numpy and Pillow raise nearly anything
            first = str(error).partition("\n")[0]  # what follows is advice to who writes programs
            why = getattr(error, "strerror", None) or first or type(error).__name__
            yield str(file), UnreadableError(f"cannot be read as a picture ({why}).")
            continue
        for number, pixels in enumerate(found):
            yield f"{file}[{number}]" if len(found) > 1 else str(file), pixels


def frames(camera: int) -> Iterator[Tuple[str, Any]]:
    """Number and pixels of each frame, until the camera stops or somebody stops the program."""
    try:
        cv2 = import_module("cv2")
    except ImportError:
        sys.exit(OPENCV)
    taken, number = cv2.VideoCapture(camera), 0
    while True:
        there, frame = taken.read()
        if not there:
            sys.exit(f"camera {camera} gave no frame after {number}; is it there, and free?")
        yield f"frame {number}", np.ascontiguousarray(frame[..., ::-1])  # OpenCV's are BGR
        number += 1


def fit(pixels: Any, how: Dict[str, Any]) -> Any:
    """Resize so that the crop covers ``crop_pct``, then cut out the centre: (H, W, 3) uint8."""
    height, width = how["size"]
    tall, wide = pixels.shape[:2]
    if isinstance(pixels, Cut) or ((tall, wide) == (height, width) and how["crop_pct"] == 1.0):
        return np.asarray(pixels)
    h, w = (max(1, math.floor(side / how["crop_pct"])) for side in how["size"])
    if w * tall >= h * wide:
        h = w * tall // wide
    else:
        w = h * wide // tall
    whole = resize(pixels, h, w, how["interpolation"], how["pillow"])
    spare = [max(0, height - h), max(0, width - w)]
    if any(spare):  # a crop larger than the image is framed in black
        whole = np.pad(whole, [*((each // 2, each - each // 2) for each in spare), (0, 0)])
    top, left = round(max(0, h - height) / 2), round(max(0, w - width) / 2)
    return whole[top : top + height, left : left + width]


def to_input(pixels: Any, how: Dict[str, Any]) -> Any:
    """Pixels (H, W, 3) uint8 as the model takes them: (1, H, W, 3) uint8, or as floats."""
    if how["dtype"] == "uint8":  # the file normalises by itself
        return np.ascontiguousarray(pixels[None])
    mean, std = np.array(how["mean"], np.float32), np.array(how["std"], np.float32)
    values = (np.float32(pixels[None]) / np.float32(255) - mean) / std
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))  # (1, 3, H, W)


def resize(pixels: Any, height: int, width: int, filter_name: str, release: str) -> Any:
    """Pixels (h, w, 3) uint8 in another size, as a release of Pillow computes them.

    It rounds between its two passes, so that their order shows: from release 13 on the vertical
    one is the first where it takes away much more than the other (Pillow's change 9549).
    """
    tall, wide = pixels.shape[:2]
    upended = tall > height and tall - height > 2 * (wide - width)
    try:
        Image: Any = import_module("PIL.Image")
    except ImportError:
        Image = None
    if Image is None or (upended and _knows(Image.__version__) != _knows(release)):
        if upended and _knows(release):
            return _resized(_resized(pixels, 0, height, filter_name), 1, width, filter_name)
        return _resized(_resized(pixels, 1, width, filter_name), 0, height, filter_name)
    filters = getattr(Image, "Resampling", Image)  # an enumeration since Pillow 9.1
    image = Image.fromarray(pixels).resize((width, height), getattr(filters, filter_name.upper()))
    return np.asarray(image)


def _knows(release: str) -> bool:
    """Whether a release of Pillow knows the other order."""
    return int(release.partition(".")[0]) >= 13


def _resized(pixels: Any, axis: int, new: int, filter_name: str) -> Any:
    """Along one axis, rounded to whole values as Pillow does between its two passes."""
    old = pixels.shape[axis]
    if old == new:
        return pixels
    scale = old / new
    if filter_name == "nearest":  # Pillow adds the step up, and so does this
        steps = np.cumsum(np.concatenate([[scale * 0.5], np.full(new - 1, scale)]))
        return np.take(pixels, steps.astype(np.int64).clip(0, old - 1), axis)
    lines, stretch = np.moveaxis(pixels, axis, 0), max(scale, 1.0)
    reach, made = REACH[filter_name] * stretch, []
    for place in range(new):
        centre = (place + 0.5) * scale
        first, last = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), old)
        weights = _kernel((np.arange(first, last) - centre + 0.5) * (1.0 / stretch), filter_name)
        shares = weights / np.cumsum(weights)[-1] * UNIT
        whole = np.trunc(shares + np.copysign(0.5, shares))
        # whole numbers below 2^53, so that floats add them up without rounding
        made.append(np.tensordot(whole, lines[first:last].astype(np.float64), 1))
    values = np.floor((np.stack(made) + UNIT / 2) / UNIT).clip(0, 255).astype(np.uint8)
    return np.moveaxis(values, 0, axis)


def _kernel(x: Any, filter_name: str) -> Any:
    """How much a pixel at a distance counts."""
    x = np.abs(x)
    if filter_name == "bilinear":
        return np.maximum(1.0 - x, 0.0)
    if filter_name == "bicubic":
        near, far = (1.5 * x - 2.5) * x * x + 1.0, (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
        return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
    return np.where(x < 3.0, np.sinc(x) * np.sinc(x / 3.0), 0.0)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files that are named, and those in the folders that are; a folder without is itself."""
    for path in paths:
        if not os.path.isdir(str(path)):  # noqa: PTH112 - Path's raises where a name is too long
            yield path
            continue
        named = (file for file in path.rglob("*") if file.suffix.lower() in ENDINGS)
        kept = (file for file in named if not os.path.isdir(str(file)))  # noqa: PTH112 - as above
        yield from sorted(kept) or [path]


def _read(file: Path, size: Sequence[int]) -> List[Any]:
    """The pictures of a file, one at least."""
    if file.is_dir():
        raise UnreadableError(f"no pictures in it ({' '.join(ENDINGS)}).")
    if not file.exists():
        expected = f"a picture ({' '.join(ENDINGS)}), or a folder of them"
        raise UnreadableError(f"there is no such file or folder; expected {expected}.")
    if not file.is_file():
        raise UnreadableError("a device or a pipe, which may never end.")
    if file.suffix.lower() == ".npy":
        with np.errstate(over="ignore"):  # mapped, as its head can claim more than it or memory has
            return _ready(np.load(str(file), mmap_mode="r", allow_pickle=False), size)
    data = file.read_bytes()
    head = PPM.match(data)
    pixels = _decoded(file) if head is None else _unpacked(data, head)
    tall, wide = pixels.shape[:2]
    if max(tall, wide) > MOST_OBLONG * min(tall, wide):
        raise UnreadableError(f"{wide}x{tall} pixels are too long to enlarge.")
    return [pixels]


def _unpacked(data: bytes, head: Match[bytes]) -> Any:
    """The pixels of a .ppm file."""
    wide, tall = int(head[1]), int(head[2])
    if not wide * tall:
        raise UnreadableError("it has no pixels.")
    return np.frombuffer(data, np.uint8, wide * tall * 3, head.end()).reshape(tall, wide, 3)


def _ready(found: Any, size: Sequence[int]) -> List[Any]:
    """The pictures of an array, which are as the model takes them."""
    if not isinstance(found, np.ndarray):
        raise UnreadableError("a file of several arrays; expected one, uint8 (N, H, W, 3).")
    if found.dtype != np.uint8 or found.ndim not in (3, 4) or found.shape[-1] != 3:
        raise UnreadableError(f"{found.dtype} {found.shape}; expected uint8 (N, H, W, 3).")
    several = found if found.ndim == 4 else found[None]
    (tall, wide), (height, width) = several.shape[1:3], size
    if (tall, wide) != (height, width):
        raise UnreadableError(f"pictures of {tall}x{wide}; the model takes {height}x{width}.")
    if not len(several):
        raise UnreadableError("an array of no pictures.")
    return [one.view(Cut) for one in np.array(several)]  # in memory: a mapped file can be cut short


def _decoded(file: Path) -> Any:
    """By Pillow: upright as its EXIF data says; 16-bit greys scaled; transparency left out."""
    try:
        Image, ImageOps = import_module("PIL.Image"), import_module("PIL.ImageOps")
    except ImportError:
        raise UnreadableError(PILLOW) from None
    try:
        with Image.open(str(file)) as opened:
            if opened.format not in FORMATS:  # some of Pillow's start programs to read them
                raise UnreadableError(f"{opened.format} is no format of pictures here.")
            image = ImageOps.exif_transpose(opened)
            if image.mode == "F":
                raise UnreadableError("its pixels are fractions; expected 8 or 16 bits.")
            if image.mode.startswith("I"):
                grey = np.asarray(image)
                if grey.min() < 0 or grey.max() > 65535:
                    raise UnreadableError("its pixels are beyond 16 bits; expected 8 or 16 bits.")
                image = Image.fromarray((grey >> 8).astype(np.uint8))
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")  # Pillow warns where this step is left out
            return np.asarray(image.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise UnreadableError(str(error)) from None
