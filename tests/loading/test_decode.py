"""Decoding shows the network what its authors' transform would have shown."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images
from timm.data import create_transform

from edgekd.data import Split
from edgekd.data.folder import folder
from edgekd.errors import DataError
from edgekd.loading import some_images
from edgekd.loading.decode import as_rgb, decode, fit, open_rgb
from edgekd.preprocess import Preprocess

Array = np.ndarray[Any, np.dtype[Any]]
PHOTOS = [Image.fromarray(pixels) for pixels in load_sample_images().images]  # 640x427
GREY = np.arange(96, dtype=np.uint8).reshape(8, 12) * 2


def split(*files: bytes) -> Split:
    return Split(
        np.zeros(len(files), np.int64),
        lambda i: Image.open(io.BytesIO(files[i])),
        lambda i: f"pets/cat/{i}.png",
    )


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0, 1.15])
@pytest.mark.parametrize(
    ("box", "side"),
    [
        ((0, 0, 640, 427), 224),
        ((0, 0, 427, 427), 96),
        ((0, 0, 333, 427), 160),
        ((0, 0, 100, 427), 96),
        ((7, 0, 640, 400), 112),
        ((0, 0, 100, 61), 224),  # enlarged
    ],
)
def test_a_photograph_is_shown_as_timm_shows_it(
    box: tuple[int, int, int, int], side: int, crop_pct: float, interpolation: str
) -> None:
    preprocess = Preprocess((side, side), (0.5,) * 3, (0.5,) * 3, interpolation, crop_pct)
    usual = create_transform(
        (3, side, side), interpolation=interpolation, crop_pct=crop_pct, use_prefetcher=True
    )
    for photo in PHOTOS:
        image = photo.crop(box)
        expected = np.moveaxis(np.asarray(usual(image)), 0, 2).astype(int)  # (H, W, 3)
        assert np.abs(np.asarray(fit(image, preprocess)).astype(int) - expected).max() <= 1


def test_an_image_of_the_right_size_is_left_as_it_is() -> None:
    image = PHOTOS[0].crop((0, 0, 32, 32))
    assert fit(image, Preprocess((32, 32), (0,) * 3, (1,) * 3)) is image


def test_a_crop_may_be_wider_than_high() -> None:
    preprocess = Preprocess((40, 80), (0,) * 3, (1,) * 3, crop_pct=0.9)
    for image in (*PHOTOS, PHOTOS[0].crop((0, 0, 50, 400)), PHOTOS[0].crop((0, 0, 400, 50))):
        assert fit(image, preprocess).size == (80, 40)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(GREY),
        Image.fromarray(GREY).convert("P"),
        Image.fromarray(GREY).convert("RGBA"),
        Image.fromarray(GREY).convert("LA"),
        Image.fromarray(GREY.astype(np.uint16) * 257),
        Image.fromarray(GREY.astype(np.uint16) * 256 + 255),
    ],
    ids=["grey", "palette", "transparent", "grey with alpha", "16 bit", "16 bit, low"],
)
def test_any_mode_shows_the_same_greys(image: Image.Image) -> None:
    found = np.asarray(open_rgb(split(encoded(image)), 0))
    assert (found == GREY[:, :, None]).all()


def test_black_and_white_are_the_ends_of_the_scale() -> None:
    image = Image.fromarray(GREY > 90)
    assert image.mode == "1"
    found = np.asarray(open_rgb(split(encoded(image)), 0))
    assert (found == 255 * (GREY > 90)[:, :, None]).all()


@pytest.mark.parametrize("transparency", [3, bytes(range(200))])
def test_a_palette_with_transparency_keeps_its_colours_and_does_not_warn(
    transparency: int | bytes,
) -> None:
    image = Image.fromarray(GREY).convert("P")
    found = np.asarray(open_rgb(split(encoded(image, transparency=transparency)), 0))
    assert (found == GREY[:, :, None]).all()


def test_cmyk_is_converted() -> None:
    cmyk = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    found = np.asarray(open_rgb(split(encoded(cmyk, "JPEG")), 0)).astype(int)
    assert np.abs(found - (0, 255, 255)).max() <= 3


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, GREY), (3, GREY[::-1, ::-1]), (6, np.rot90(GREY, -1)), (8, np.rot90(GREY))],
)
def test_a_photograph_stands_upright(orientation: int, upright: Array) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = open_rgb(split(encoded(Image.fromarray(GREY), exif=exif)), 0)
    assert (np.asarray(image) == upright[:, :, None]).all()


def test_the_content_counts_not_the_extension(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "really.jpg").write_bytes(encoded(Image.fromarray(GREY), "PNG"))
    found = open_rgb(folder(str(tmp_path)).splits["train"], 0)
    assert (np.asarray(found) == GREY[:, :, None]).all()


JPEG = encoded(PHOTOS[0].crop((200, 200, 264, 264)), "JPEG")
PNG = encoded(PHOTOS[0].crop((200, 200, 264, 264)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is of no format that Pillow knows. Ex"),
        (b"<html>not found</html>", "it is of no format that Pillow knows. Ex"),
        (JPEG[:300], "Truncated"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (PNG[:60], "truncated|broken"),
        (b"GIF89a" + bytes(20), "."),
    ],
    ids=["empty", "text", "jpeg head", "half a jpeg", "half a png", "png head", "gif head"],
)
def test_an_image_that_cannot_be_read_is_named(content: bytes, reason: str) -> None:
    whole = encoded(Image.fromarray(GREY))
    with pytest.raises(DataError, match=rf"cannot read image pets/cat/1.png: .*({reason})") as no:
        decode(split(whole, content, whole), Preprocess((8, 8), (0,) * 3, (1,) * 3))
    assert "replace it or take it out" in str(no.value)


def test_an_image_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # GREY has more than twice as many
    with pytest.raises(DataError, match=r"pets/cat/0.png: .*exceeds limit"):
        open_rgb(split(encoded(Image.fromarray(GREY))), 0)


def test_images_come_in_order_and_each_ticks(split_of: Callable[..., Split]) -> None:
    count, ticks, threads = 300, [], set()
    noise = split_of([0, 1, 2] * 100, 8)

    def image(i: int) -> Image.Image:
        threads.add(threading.get_ident())
        return noise.image(i)

    found = decode(
        Split(noise.targets, image, noise.name),
        Preprocess((8, 8), (0,) * 3, (1,) * 3),
        lambda: ticks.append(1),
    )
    assert len(ticks) == count
    assert found.pixels.shape == (count, 8, 8, 3)
    assert (found.targets == noise.targets).all()
    for i in (0, 1, 255, 256, 299):
        assert (found.pixels[i] == np.asarray(noise.image(i))).all()
    assert threading.get_ident() not in threads


def test_some_images_are_spread_over_the_split(split_of: Callable[..., Split]) -> None:
    noise = split_of(list(range(10)), 8)
    preprocess = Preprocess((8, 8), (0,) * 3, (1,) * 3)
    assert some_images(noise, preprocess, 3).targets.tolist() == [0, 4, 9]
    assert some_images(noise, preprocess, 99).targets.tolist() == list(range(10))


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_16_bit_values_are_scaled_not_cut(kind: type[np.generic]) -> None:
    image = Image.fromarray(np.array([[0, 255, 256, 65535]], kind))
    assert np.asarray(as_rgb(image))[0, :, 0].tolist() == [0, 0, 1, 255]
