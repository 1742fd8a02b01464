"""Pictures: what a deployed folder reads is what edgekd reads, to the bit."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

from edgekd.data import Split
from edgekd.loading.decode import fit, pixels_of
from edgekd.preprocess import Preprocess

SIZES = [(8, 8), (30, 40), (61, 20), (200, 90), (97, 311), (1, 1), (3, 50)]
ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
PILLOW = PIL.__version__


def without(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Have imports of these fail, as where they are not installed."""
    real = importlib.import_module

    def importing(name: str, package: str | None = None) -> Any:
        if name.partition(".")[0] in names:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, package)

    patch.setattr(real("pictures"), "import_module", importing)


def photo(height: int, width: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def table(how: Preprocess, pillow: str = PILLOW) -> dict[str, Any]:
    return how.to_dict() | {"pillow": pillow}


@pytest.mark.parametrize("filter_name", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("pillow", [True, False], ids=["with Pillow", "without Pillow"])
def test_pixels_are_edgekds(
    filter_name: str, pillow: bool, payload: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = payload("pictures")
    if not pillow:
        without(monkeypatch, "PIL")
    for (tall, wide), size, crop in itertools.product(
        SIZES, [(8, 8), (24, 32)], [1.0, 0.875, 1.15]
    ):
        how = Preprocess(size, ZEROS, ONES, interpolation=filter_name, crop_pct=crop)
        pixels = photo(tall, wide)
        expected = np.asarray(fit(Image.fromarray(pixels), how))
        found = pictures.fit(pixels, table(how))
        assert np.array_equal(found, expected), (tall, wide, size, crop)


def test_the_order_of_the_passes_is_that_of_the_release_edgekd_had(
    payload: Callable[[str], Any],
) -> None:
    """A picture twice as tall as wide, which releases before and from 13 resize differently."""
    pictures, pixels = payload("pictures"), photo(94, 44)
    old, now = (pictures.resize(pixels, 51, 24, "bicubic", one) for one in ("12.2.0", "13.0.0"))
    assert (old != now).any()
    assert np.abs(old.astype(int) - now).max() <= 16
    mine = np.asarray(Image.fromarray(pixels).resize((24, 51), Image.Resampling.BICUBIC))
    assert np.array_equal(mine, now if int(PILLOW.split(".")[0]) >= 13 else old)


def test_files_are_read_as_edgekd_reads_them(payload: Callable[[str], Any], tmp_path: Path) -> None:
    pixels = photo(20, 31)
    plain = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # lying on its side
    plain.save(tmp_path / "a.jpg", exif=exif)
    plain.save(tmp_path / "b.png")
    plain.convert("L").save(tmp_path / "c.png")
    Image.fromarray(photo(9, 9)[..., 0].astype(np.uint16) * 256).save(tmp_path / "d.png")
    plain.convert("P").save(tmp_path / "e.png", transparency=3)
    plain.convert("RGBA").save(tmp_path / "f.png")
    plain.convert("CMYK").save(tmp_path / "g.jpg")
    plain.save(tmp_path / "h.ppm")
    files = sorted(tmp_path.iterdir())
    split = Split(np.zeros(len(files), np.int64), lambda i: Image.open(files[i]), lambda i: "")
    how = Preprocess((16, 16), ZEROS, ONES, interpolation="bicubic", crop_pct=0.9)
    pictures = payload("pictures")
    (tmp_path / "dir.jpg").mkdir()  # which is no picture, and no damaged one
    found = dict(pictures.pictures([tmp_path], (16, 16)))
    assert list(found) == [str(file) for file in files]
    for index, pixels in enumerate(found.values()):
        expected = pixels_of(split, index, how)
        assert np.array_equal(pictures.fit(pixels, table(how)), expected), files[index]


def test_numpys_own_files_are_as_the_model_takes_them(
    payload: Callable[[str], Any], tmp_path: Path
) -> None:
    pictures, batch = payload("pictures"), np.stack([photo(8, 8, 1), photo(8, 8, 2)])
    np.save(tmp_path / "several.npy", batch)
    np.save(tmp_path / "one.npy", batch[0])
    how = table(Preprocess((8, 8), ZEROS, ONES, crop_pct=0.5))
    several = list(pictures.pictures([tmp_path / "several.npy"], (8, 8)))
    assert [name.partition(".npy")[2] for name, _ in several] == ["[0]", "[1]"]
    ((_, one),) = pictures.pictures([tmp_path / "one.npy"], (8, 8))
    for (_, pixels), expected in zip([*several, ("", one)], [*batch, batch[0]], strict=True):
        assert np.array_equal(pictures.fit(pixels, how), expected)
    ((name, wrong),) = pictures.pictures([tmp_path / "several.npy"], (9, 9))
    assert name == str(tmp_path / "several.npy")
    assert str(wrong) == "pictures of 8x8; the model takes 9x9."


def header(shape: str) -> bytes:
    """A .npy file that has nothing but its head."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.filterwarnings("error")  # else numpy's own would be shown as well
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jpg", b"no picture", "cannot be read as a picture (cannot identify image file"),
        (
            "b.ppm",
            b"P6 4 4 255\nshort",
            "cannot be read as a picture (buffer is smaller than requested",
        ),
        ("c.npy", b"", "cannot be read as a picture (No data left"),
        ("d.npy", np.array({}, object), "cannot be read as a picture (Array can't be"),
        ("e.npy", np.zeros((2, 2, 3)), "float64 (2, 2, 3); expected uint8"),
        ("f.ppm", b"P6 0 4 255\n", "no pixels"),
        ("g.npy", header("(16777216, 4194304, 3)"), "cannot be read as a picture (mmap length"),
        ("h.npy", header("(2, 2, 3"), "cannot be read as a picture ("),
        ("k.npy", header("(100000000, 100000000, 3)"), "cannot be read as a picture (mmap length"),
        (
            "n.npy",
            header(f"({2**63 - 1}, {2**63 - 1}, 3)"),
            "cannot be read as a picture (mmap length",
        ),
        (
            "o.npy",
            header(f"(2, 2, 3){' ' * 12_000}"),
            "is large and may not be safe to load securely.)",
        ),
        ("l.npy", header("(9223372036854775808, 4, 3)"), "cannot be read as a picture ("),
        (f"{'m' * 300}.ppm", None, "cannot be read as a picture (File name too long)"),
        ("i.npy", np.zeros((0, 4, 4, 3), np.uint8), "no pictures"),
        ("j.npy", np.zeros((9, 9, 3), np.uint8), "9x9; the model takes 4x4"),
    ],
)
def test_what_is_no_picture_is_said_and_passed_over(
    name: str, content: Any, said: str, payload: Callable[[str], Any], tmp_path: Path
) -> None:
    pictures, file = payload("pictures"), tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        np.save(file, content)
    Image.fromarray(photo(4, 4)).save(tmp_path / "z.ppm")
    (_, wrong), (last, _) = pictures.pictures([file, tmp_path / "z.ppm"], (4, 4))
    assert isinstance(wrong, pictures.UnreadableError)
    assert said in str(wrong)
    assert last.endswith("z.ppm")


def test_a_comment_in_a_ppm(payload: Callable[[str], Any], tmp_path: Path) -> None:
    pixels = photo(2, 3)
    (tmp_path / "a.ppm").write_bytes(b"P6\n# a camera's\n3 2\n# and more\n255\n" + pixels.tobytes())
    ((_, found),) = payload("pictures").pictures([tmp_path / "a.ppm"], (2, 3))
    assert np.array_equal(found, pixels)
