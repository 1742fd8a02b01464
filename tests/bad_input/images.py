"""Image files that cannot be read, or would take all of the memory."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bad_input.table import Case, Cases, Place

NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def encoded(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def half(form: str) -> bytes:
    """An image of noise that was cut off."""
    whole = encoded(Image.fromarray(NOISE), form)
    return whole[: len(whole) // 2]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes) -> bytes:
    """A PNG file that says it is so large, and has other chunks before its few pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + pixels


def spoilt(content: bytes, name: str = "2.png") -> Case:
    """Good images, and this one."""

    def case(place: Place) -> list[str | Path]:
        data = place.pictures(cat=6, dog=6)
        (data / "cat" / name).write_bytes(content)
        return place.teach(data)

    return case


def made(make: Callable[[Path], object]) -> Case:
    """Good images, and this at the path of one."""

    def case(place: Place) -> list[str | Path]:
        data = place.pictures(cat=6, dog=6)
        (data / "cat" / "2.png").unlink()
        make(data / "cat" / "2.png")
        return place.teach(data)

    return case


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**31 + 1)


TEXT = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**23)))
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(canary) (w) file\n%%EOF\n"
NO_FORMAT = ["cannot read image", "cat/2.png", "it is of no format", "replace it"]
NOT_PLAIN = ["cannot read image", "cat/2.png: it is no plain file", "take it out"]

CASES: Cases = {
    "corrupt image": (
        spoilt(b"\x89PNG\r\n\x1a\n and then nothing of use"),
        2,
        ["cannot read image", "cat/2.png", "replace it"],
    ),
    "truncated image": (
        spoilt(half("PNG")),
        2,
        ["cannot read image", "cat/2.png", "truncated", "replace it"],
    ),
    "truncated JPEG": (spoilt(half("JPEG"), "2.jpg"), 2, ["cat/2.jpg", "truncated"]),
    "truncated GIF": (spoilt(half("GIF"), "2.gif"), 2, ["cat/2.gif", "truncated"]),
    "truncated WebP": (spoilt(half("WEBP"), "2.webp"), 2, ["cannot read image", "cat/2.webp"]),
    "truncated TIFF": (spoilt(half("TIFF"), "2.tif"), 2, ["cannot read image", "cat/2.tif"]),
    "truncated BMP": (spoilt(half("BMP"), "2.bmp"), 2, ["cat/2.bmp", "truncated"]),
    "image of nothing": (spoilt(b""), 2, NO_FORMAT),
    "image of words": (spoilt(b"<html>not found</html>"), 2, NO_FORMAT),
    "image that is a drawing": (spoilt(SVG), 2, NO_FORMAT),
    "image that is a program": (spoilt(EPS), 2, NO_FORMAT),
    "image that is a document": (spoilt(b"%PDF-1.7\n%%EOF\n"), 2, NO_FORMAT),
    "image that is an archive": (spoilt(b"PK\3\4" + bytes(60)), 2, NO_FORMAT),
    "image of 30,000 by 30,000": (
        spoilt(png(30_000, 30_000)),
        2,
        ["cat/2.png", "900000000 pixels", "exceeds limit"],
    ),
    "image of four billion pixels": (
        spoilt(b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x02"),
        2,
        ["cat/2.png", "4294836225 pixels", "exceeds limit"],
    ),
    "image of 30,000 by 1": (
        spoilt(encoded(Image.new("RGB", (30_000, 1)), "PNG")),
        2,
        ["cat/2.png", "it is 30000x1 pixels", "more than 500 times as long as wide"],
    ),
    "image with a novel in it": (
        spoilt(png(8, 8, TEXT)),
        2,
        ["cat/2.png", "too large"],
    ),
    "image of no pixels": (spoilt(png(0, 8)), 2, ["cannot read image", "cat/2.png"]),
    "image of fractions": (
        spoilt(encoded(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF")),
        2,
        ["cat/2.png", "its pixels are fractions", "expected whole numbers of 8 or 16 bits"],
    ),
    "image of 32 bits": (
        spoilt(encoded(Image.fromarray(np.full((8, 8), 70_000, np.int32)), "TIFF")),
        2,
        ["cat/2.png", "its pixels are beyond 16 bits"],
    ),
    "image that is a pipe": (made(os.mkfifo), 2, NOT_PLAIN),
    "image without end": (made(lambda path: path.symlink_to("/dev/zero")), 2, NOT_PLAIN),
    "image that is not there": (
        made(lambda path: path.symlink_to("nowhere.png")),
        2,
        ["cat/2.png: No such file or directory", "take it out"],
    ),
    "image in a circle": (
        made(lambda path: path.symlink_to(path)),
        2,
        ["cat/2.png: Too many levels of symbolic links"],
    ),
    "image that cannot be read": (
        made(lambda path: path.symlink_to("/proc/self/mem")),
        2,
        ["cat/2.png: Input/output error"],
    ),
    "image of two gigabytes": (
        made(huge),
        2,
        ["cat/2.png: it has 2,147,483,649 bytes", "at most 1,073,741,824"],
    ),
    "image with a name in red": (
        spoilt(b"", "\x1b[31mred\n\u202e\udcff.png"),
        2,
        ["\\x1b[31mred", "\\u202e\\udcff.png", "it is of no format"],
    ),
}
