"""Small pictures from a record, checked before they go into a page that others will open.

Only what a picture is made of is kept of a PNG: its text, place and time (``tEXt``, ``eXIf``, ...)
are not for the reader. Sources: the PNG specification, third edition, sections 5 and 11
(https://www.w3.org/TR/png-3/).
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SIDE = 256
"""Pixels at most; edgekd writes 96."""
BYTES = 128 * 1024
"""At most; 96 x 96 pixels of noise are 28 kB."""
KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def checked_png(data: object) -> str:
    """The picture as base64, without what is not needed to show it; empty where it is none.

    Args:
        data: base64, as found in a file.
    """
    if not isinstance(data, str) or len(data) > BYTES * 4 // 3 + 4:
        return ""
    try:
        raw = base64.b64decode(data, validate=True)
        chunks = list(_chunks(raw))
    except (binascii.Error, ValueError, struct.error):
        return ""
    kinds = [kind for kind, _ in chunks]
    if kinds[:1] != [b"IHDR"] or kinds[-1:] != [b"IEND"] or b"IDAT" not in kinds:
        return ""
    if kinds.count(b"IHDR") > 1 or not _sane(chunks[0][1]):
        return ""
    kept = b"".join(_packed(kind, body) for kind, body in chunks if kind in KEPT)
    return base64.b64encode(SIGNATURE + kept).decode("ascii")


def _chunks(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk, to the last byte.

    Raises:
        ValueError: it is not a PNG, or a broken one.
        struct.error: it ends too soon.
    """
    if not raw.startswith(SIGNATURE):
        raise ValueError("no PNG")
    at = len(SIGNATURE)
    while at < len(raw):
        (size,) = struct.unpack_from(">I", raw, at)
        kind, body = raw[at + 4 : at + 8], raw[at + 8 : at + 8 + size]
        (crc,) = struct.unpack_from(">I", raw, at + 8 + size)
        if crc != zlib.crc32(kind + body):
            raise ValueError("a chunk is broken")
        yield kind, body
        at += 12 + size


def _sane(header: bytes) -> bool:
    """Whether a picture has as many pixels as a thumbnail may have."""
    sides = struct.unpack_from(">II", header) if len(header) == 13 else (0,)
    return all(0 < side <= SIDE for side in sides)


def _packed(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
