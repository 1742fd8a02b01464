"""Pictures that come out of a file into a page: only small, whole PNGs, and only their pixels."""

from __future__ import annotations

import base64
import io
import random

import pytest
from PIL import Image

from edgekd.report.pictures import BYTES, SIDE, SIGNATURE, checked_png
from tests.report.fleet import png


def pixels(data: str) -> list[tuple[int, ...]]:
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return [image.size, *image.convert("RGB").getcolors(4)[0]]  # type: ignore[index]


def test_what_is_not_a_pixel_is_left_out() -> None:
    given = png(32, 24, b"\x10\x20\x30", b"tEXtAuthor\0ada")
    kept = checked_png(given)
    assert b"ada" in base64.b64decode(given)
    assert b"ada" not in base64.b64decode(kept)
    assert pixels(kept) == pixels(given) == [(32, 24), 32 * 24, (16, 32, 48)]
    assert checked_png(kept) == kept


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_what_pillow_writes_is_taken(mode: str) -> None:
    made = io.BytesIO()
    noise = random.Random(0).randbytes(96 * 96 * 3)
    Image.frombytes("RGB", (96, 96), noise).convert(mode).save(made, "PNG")
    kept = checked_png(base64.b64encode(made.getvalue()).decode())
    assert Image.open(io.BytesIO(base64.b64decode(kept))).tobytes()


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


WHOLE = base64.b64decode(png(8, 8))


@pytest.mark.parametrize(
    "data",
    [
        None,
        7,
        ["iVBORw0KGgo="],
        "",
        "not base64!",
        png(8, 8) + "\n",
        "data:image/png;base64," + png(8, 8),
        encoded(b"GIF89a" + WHOLE),
        encoded(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        encoded(SIGNATURE),
        encoded(WHOLE[:-6]),
        encoded(WHOLE + b"<script>"),
        encoded(WHOLE[:40] + b"x" + WHOLE[41:]),
        encoded(SIGNATURE + WHOLE[33:]),
        png(SIDE + 1, 1),
        png(1, SIDE + 1),
        png(0, 8),
        png(8, 8, extra=b"IHDR" + WHOLE[16:29]),
        png(8, 8, extra=b"IDAT" + b"x" * BYTES),
    ],
)
def test_anything_else_is_refused(data: object) -> None:
    assert checked_png(data) == ""
