"""Odd images that are legal are read right, and alike on the host, the device and in what it runs.

The three do not share their code: the device's runs with Python 3.8, the deployed one beside it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from edgekd.agent.decoding import Decoder, Fit
from edgekd.agent.failures import AgentError
from edgekd.data.folder import folder
from edgekd.errors import DataError
from edgekd.loading.decode import open_rgb
from tests.deploy.conftest import payload

__all__ = ["payload"]

Pixels = NDArray[Any]
Reader = Callable[[Path], Pixels]
UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
    8: lambda p: np.rot90(p),
}
"""How EXIF's orientations are shown."""


@pytest.fixture
def readers(payload: Callable[[str], Any]) -> dict[str, Reader]:
    """Each from a file to (h, w, 3) uint8; what cannot be read raises."""
    pictures = payload("pictures")

    def host(path: Path) -> Pixels:
        split = folder(str(path.parents[1])).splits["train"]
        rows = [row for row in range(len(split)) if split.name(row) == str(path)]
        return np.asarray(open_rgb(split, rows[0]))

    def device(path: Path) -> Pixels:
        with Image.open(path) as image:  # turned, it has the sides the other way round
            sides = (image.size, image.size[::-1])
        shapes = {host(path).shape[:2]} & {(h, w) for w, h in sides}
        how = Fit(shapes.pop(), "nearest", 1.0)
        found: Pixels = Decoder(how)(path.read_bytes())
        return found

    def deployed(path: Path) -> Pixels:
        ((_, pixels),) = pictures.pictures([path], (1, 1))
        if isinstance(pixels, pictures.UnreadableError):
            raise pixels
        return np.asarray(pixels)

    return {"host": host, "device": device, "deployed": deployed}


def put(root: Path, content: bytes, name: str = "1.png") -> Path:
    (root / "cat").mkdir(parents=True, exist_ok=True)
    (root / "cat" / name).write_bytes(content)
    return root / "cat" / name


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def assert_read(readers: dict[str, Reader], path: Path, expected: Pixels) -> None:
    for who, reader in readers.items():
        np.testing.assert_array_equal(reader(path), expected, err_msg=who)


def photo(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True, "exact": True},
}


@pytest.mark.parametrize("form", LOSSLESS)
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_every_orientation_is_applied_once(
    orientation: int, form: str, readers: dict[str, Reader], tmp_path: Path
) -> None:
    pixels, exif = photo(5, 8), Image.Exif()
    exif[0x0112] = orientation
    file = put(tmp_path, encoded(Image.fromarray(pixels), form, exif=exif, **LOSSLESS[form]))
    assert_read(readers, file, UPRIGHT[orientation](pixels))


@settings(max_examples=40)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
    st.sampled_from(list(LOSSLESS)),
    st.sampled_from(["RGB", "L", "RGBA", "LA", "1"]),
)
def test_what_is_shown_is_what_was_drawn(
    height: int, width: int, seed: int, form: str, mode: str
) -> None:
    image = Image.fromarray(photo(height, width, seed)).convert(mode)
    if form == "WEBP" and mode in ("L", "LA", "1"):
        return  # a format without greys
    data = encoded(image, form, **({} if mode == "1" else LOSSLESS[form]))
    seen = np.asarray(image.convert("RGBA"))[..., :3]  # the colours, transparent or not
    shown = Decoder(Fit((height, width), "nearest", 1.0))(data)
    np.testing.assert_array_equal(shown, seen)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["PNG", "TIFF", "PPM"]))
def test_16_bits_are_scaled_not_clipped(seed: int, form: str) -> None:
    grey = np.random.default_rng(seed).integers(0, 65536, (6, 7), np.uint16)
    shown = Decoder(Fit((6, 7), "nearest", 1.0))(encoded(Image.fromarray(grey), form))
    np.testing.assert_array_equal(shown, np.repeat((grey >> 8)[..., None], 3, 2))


PALETTE = Image.fromarray(photo(9, 9)).quantize(16)
GREY = np.arange(81, dtype=np.uint16).reshape(9, 9) * 800
ODD: dict[str, tuple[str, bytes, Pixels]] = {
    "one pixel": ("1.png", encoded(Image.fromarray(photo(1, 1))), photo(1, 1)),
    "a JPEG named .png": (
        "1.png",
        encoded(Image.fromarray(photo(9, 9)), "JPEG"),
        np.asarray(Image.open(io.BytesIO(encoded(Image.fromarray(photo(9, 9)), "JPEG")))),
    ),
    "a capital extension": ("1.PNG", encoded(Image.fromarray(photo(9, 9))), photo(9, 9)),
    "a palette": ("1.png", encoded(PALETTE), np.asarray(PALETTE.convert("RGB"))),
    "a transparent palette": (
        "1.png",
        encoded(PALETTE, transparency=bytes(range(16))),
        np.asarray(PALETTE.convert("RGB")),
    ),
    "transparent colours": (
        "1.png",
        encoded(Image.fromarray(np.dstack([photo(9, 9), np.zeros((9, 9, 1), np.uint8)]))),
        photo(9, 9),
    ),
    "16 bits of grey": (
        "1.png",
        encoded(Image.fromarray(GREY)),
        np.repeat((GREY >> 8).astype(np.uint8)[..., None], 3, 2),
    ),
    "an animated GIF": (
        "1.gif",
        encoded(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(90)]),
        np.asarray(PALETTE.convert("RGB")),
    ),
    "an animated PNG": (
        "1.png",
        encoded(
            Image.fromarray(photo(9, 9)),
            save_all=True,
            append_images=[Image.fromarray(photo(9, 9, 1))],
        ),
        photo(9, 9),
    ),
    "an animated WebP": (
        "1.webp",
        encoded(
            Image.fromarray(photo(9, 9)),
            "WEBP",
            save_all=True,
            append_images=[Image.fromarray(photo(9, 9, 1))],
            lossless=True,
        ),
        photo(9, 9),
    ),
    "a TIFF of pages": (
        "1.tif",
        encoded(
            Image.fromarray(photo(9, 9)),
            "TIFF",
            save_all=True,
            append_images=[Image.fromarray(photo(9, 9, 1))],
        ),
        photo(9, 9),
    ),
    "long, but not too long": (
        "1.png",
        encoded(Image.fromarray(photo(2, 1000))),
        photo(2, 1000),
    ),
    "bits": (
        "1.bmp",
        encoded(Image.fromarray(GREY > 30_000), "BMP"),
        np.repeat((GREY > 30_000)[..., None] * np.uint8(255), 3, 2),
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_image_is_read_right(name: str, readers: dict[str, Reader], tmp_path: Path) -> None:
    file, content, expected = ODD[name]
    assert_read(readers, put(tmp_path, content, file), expected)


def test_cmyk_is_shown_in_its_colours(readers: dict[str, Reader], tmp_path: Path) -> None:
    """Adobe's programs write the inks the other way round, and say so; Pillow does the same."""
    content = encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=100)
    assert b"Adobe" in content
    shown = [reader(put(tmp_path, content, "1.jpg")) for reader in readers.values()]
    for pixels in shown:
        assert np.abs(pixels.astype(int) - (0, 255, 255)).max() <= 3
        np.testing.assert_array_equal(pixels, shown[0])


REFUSED: dict[str, bytes] = {
    "fractions": encoded(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"),
    "32 bits": encoded(Image.fromarray(np.full((8, 8), 70_000, np.int32)), "TIFF"),
    "below zero": encoded(Image.fromarray(np.full((8, 8), -1, np.int32)), "TIFF"),
    "too long": encoded(Image.new("RGB", (501, 1))),
    "too high": encoded(Image.new("RGB", (1, 501))),
    "a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n",
    "an icon": encoded(Image.new("RGB", (16, 16)), "ICO"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_one_refuses_all_refuse(
    name: str, payload: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subprocess.check_call", lambda *a, **k: pytest.fail("started a program"))
    path = put(tmp_path, REFUSED[name])
    with pytest.raises(DataError, match="cannot read image"):
        open_rgb(folder(str(tmp_path)).splits["train"], 0)
    with pytest.raises(AgentError, match="cannot be decoded"):
        Decoder(Fit((8, 8), "nearest", 1.0))(path.read_bytes())
    pictures = payload("pictures")
    ((_, found),) = pictures.pictures([path], (8, 8))
    assert isinstance(found, pictures.UnreadableError)


def test_the_deployed_program_waits_for_no_pipe(
    payload: Callable[[str], Any], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "1.jpg")
    pictures = payload("pictures")
    ((_, found),) = pictures.pictures([tmp_path], (8, 8))
    assert str(found) == "a device or a pipe, which may never end."


def test_hidden_folders_are_nobodys_classes(tmp_path: Path) -> None:
    for label in ("cat", "dog", ".ipynb_checkpoints", "cat/.ipynb_checkpoints"):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / "1.png").write_bytes(encoded(Image.new("RGB", (8, 8))))
    found = folder(str(tmp_path))
    assert found.labels == ("cat", "dog")
    assert len(found.splits["train"]) == 2


def test_a_folder_of_an_images_name_is_none(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label / "2.png").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / label / "1.png")
    assert len(folder(str(tmp_path)).splits["train"]) == 2
