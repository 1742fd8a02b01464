"""Decoding on the device is what the host does, bit for bit."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekd.agent.decoding import Decoder, Fit, read_encoded
from edgekd.agent.failures import AgentError
from edgekd.data import Split
from edgekd.loading.decode import pixels_of
from edgekd.preprocess import Preprocess

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (53, 87, 4), dtype=np.uint8)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(NOISE[..., :3]), "JPEG", exif=exif)


def on_the_host(data: bytes, how: Preprocess) -> Any:
    split = Split(np.zeros(1, np.int64), lambda i: Image.open(io.BytesIO(data)), str)
    return pixels_of(split, 0, how)


def same(data: bytes, how: Preprocess) -> None:
    fit = Fit.from_table(how.to_dict(), (1, 1))
    found = Decoder(fit)(np.frombuffer(data, np.uint8))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, on_the_host(data, how))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "odd"])
@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 1.0, 1.15])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (96, 31), (53, 87)])
def test_sizes_and_crops(size: tuple[int, int], crop_pct: float, interpolation: str) -> None:
    how = Preprocess(size, (0.5,) * 3, (0.5,) * 3, interpolation, crop_pct)
    same(encoded(Image.fromarray(NOISE[..., :3])), how)


PALETTE = Image.fromarray(NOISE[..., :3]).quantize(16)
IMAGES = {
    "grey": encoded(Image.fromarray(NOISE[..., 0])),
    "grey and alpha": encoded(Image.fromarray(NOISE[..., 0]).convert("LA")),
    "16 bits": encoded(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)),
    "black and white": encoded(Image.fromarray(NOISE[..., 0]).convert("1")),
    "transparent": encoded(Image.fromarray(NOISE)),
    "palette": encoded(PALETTE),
    "transparent palette": encoded(PALETTE, transparency=3),
    "transparent palette of bytes": encoded(PALETTE, transparency=bytes(range(16))),
    "cmyk": encoded(Image.fromarray(NOISE[..., :3]).convert("CMYK"), "JPEG"),
    "gif": encoded(PALETTE, "GIF"),
    **{f"turned {n}": turned(n) for n in range(1, 9)},
}


@pytest.mark.parametrize("name", IMAGES)
def test_modes_and_orientations(name: str) -> None:
    same(IMAGES[name], Preprocess((24, 40), (0.5,) * 3, (0.5,) * 3, "bicubic", 0.9))


def test_what_the_preprocessing_leaves_out_is_as_usual() -> None:
    assert Fit.from_table({"mean": [0, 0, 0]}, (32, 24)) == Fit((32, 24), "bilinear", 1.0)
    with pytest.raises(AgentError, match=r"'crop_pct': -1\.5.*above 0"):
        Fit.from_table({"crop_pct": -1.5}, (32, 24))


def test_a_broken_image_is_a_sentence() -> None:
    decode = Decoder(Fit((8, 8), "bilinear", 1.0))
    whole = encoded(Image.fromarray(NOISE[..., :3]))
    for data in (b"nothing", whole[: len(whole) // 2]):
        with pytest.raises(AgentError, match="cannot be decoded on this device") as caught:
            decode(data)
        assert caught.value.kind == "input"


def test_a_device_without_pillow_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(AgentError, match=r"has no Pillow.*-m pip install pillow") as caught:
        Decoder(Fit((8, 8), "bilinear", 1.0))
    assert caught.value.kind == "module"


def test_a_zip_is_read_in_its_order_and_no_further_than_needed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as file:
        file.mkdir("folder")
        for name in ("9.png", "1.png", "folder/5.png"):
            file.writestr(name, name.encode())
    found = read_encoded(tmp_path / "images.zip", 2)
    assert [one.tobytes() for one in found] == [b"9.png", b"1.png"]


def test_a_zip_that_is_none_or_empty_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "images.zip"
    file.write_bytes(b"nothing")
    with pytest.raises(AgentError, match=r"images\.zip cannot be read as a zip"):
        read_encoded(file, 1)
    zipfile.ZipFile(file, "w").close()
    with pytest.raises(AgentError, match="without image files"):
        read_encoded(file, 1)
