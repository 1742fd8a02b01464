"""Pictures for a measurement: decoded ones as an array, encoded ones as a zip."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from importlib import util
from pathlib import Path

from edgekd.errors import UsageError

NAMES = ("china.jpg", "flower.jpg")
STAMP = (1980, 1, 1, 0, 0, 0)
"""The oldest a zip can hold: the same images are the same bytes, whenever they are packed."""


def decoded_photos(target: Path) -> Path | None:
    """Write scikit-learn's two photographs as ``np.save`` would; None where they are not there."""
    places = _photos()
    if not places:
        return None
    from PIL import Image

    pixels, shape = b"", (0, 0)
    for place in places:
        with Image.open(place) as image:
            pixels += image.convert("RGB").tobytes()
            shape = image.height, image.width
    target.write_bytes(_npy_header((len(places), *shape, 3)) + pixels)
    return target


def encoded_photos(target: Path) -> Path:
    """Pack the same two photographs as they are on the disk.

    Raises:
        UsageError: they are not there.
    """
    places = _photos()
    if not places:
        raise UsageError(
            "the clock end_to_end needs encoded images, and scikit-learn's two photographs are "
            "not there. Give images with --data, or use --clock inference."
        )
    return pack(target, ((place.suffix, place.read_bytes()) for place in places))


def pack(target: Path, images: Iterable[tuple[str, bytes]]) -> Path:
    """Put encoded images into one zip, in order and not compressed further.

    Args:
        target: the zip.
        images: suffix and content of each, such as ``.jpg``.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for index, (suffix, content) in enumerate(images):
            archive.writestr(zipfile.ZipInfo(f"{index:05}{suffix}", STAMP), content)
    return target


def _photos() -> list[Path]:
    """The photographs that come with scikit-learn, found without importing it."""
    spec = util.find_spec("sklearn")
    folder = Path(spec.origin).parent / "datasets/images" if spec and spec.origin else None
    if folder is None:
        return []
    places = [folder / name for name in NAMES]
    return places if all(place.is_file() for place in places) else []


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """What ``np.save`` writes before bytes; importing numpy for it would double the start-up."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(64 * math.ceil((len(text) + 11) / 64) - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
