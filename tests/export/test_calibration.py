"""The images int8 is calibrated on: balanced, other ones held out, and known by name and hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from edgekd.data import Indices, Split
from edgekd.errors import DataError
from edgekd.export._quantising.calibration import MOST_HELD_OUT, calibration_of
from edgekd.preprocess import Preprocess

TINY = Preprocess((4, 4), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def split() -> Callable[..., Split]:
    """Images of one colour each, which tells them apart, in the order of their classes."""

    def make(*counts: int, shade: int = 0) -> Split:
        targets: Indices = np.repeat(np.arange(len(counts)), counts).astype(np.int64)

        def image(i: int) -> Image.Image:
            return Image.new("RGB", (4, 4), (i % 256, i // 256, shade))

        return Split(targets, image, "image {}".format)

    return make


def numbers(pixels: np.ndarray) -> list[int]:
    """Which images these are."""
    return [int(p[0, 0, 0]) + 256 * int(p[0, 0, 1]) for p in pixels]


def test_classes_have_equal_shares_on_both_sides(split: Callable[..., Split]) -> None:
    found = calibration_of(split(200, 50, 40), TINY, 60)
    assert np.bincount(found.images.targets).tolist() == [20, 20, 20]
    assert np.bincount(found.held_out.targets).tolist() == [20, 20, 20]


def test_a_class_that_runs_out_is_made_up_for_by_the_others(split: Callable[..., Split]) -> None:
    found = calibration_of(split(100, 5, 100), TINY, 60)
    assert np.bincount(found.images.targets)[1] == 5
    assert abs(np.diff(np.bincount(found.images.targets)[[0, 2]])[0]) <= 1


def test_fewer_images_than_classes_are_not_the_first_classes(split: Callable[..., Split]) -> None:
    found = calibration_of(split(*[4] * 50), TINY, 20)
    classes = found.images.targets
    assert len(set(classes.tolist())) == 20
    assert classes.max() > 30


def test_no_image_is_on_both_sides_and_each_has_its_name(split: Callable[..., Split]) -> None:
    found = calibration_of(split(100, 100), TINY, 80)
    taken, held = numbers(found.images.pixels), numbers(found.held_out.pixels)
    assert not set(taken) & set(held)
    assert len(set(taken)) == len(set(held)) == 80
    assert found.names == tuple(f"image {i}" for i in taken)
    assert [int(i >= 100) for i in taken] == found.images.targets.tolist()


def test_at_most_so_many_are_held_out(split: Callable[..., Split]) -> None:
    assert len(calibration_of(split(700, 700), TINY, 600).held_out) == MOST_HELD_OUT
    assert len(calibration_of(split(60, 60), TINY, 90).held_out) == 30  # those that are left


def test_the_choice_is_the_same_every_time(split: Callable[..., Split]) -> None:
    first, second = (calibration_of(split(30, 30), TINY, 20) for _ in range(2))
    assert first.names == second.names
    assert first.sha256 == second.sha256
    assert len(first.sha256) == 64


def test_the_hash_is_of_the_pixels_and_of_the_names(split: Callable[..., Split]) -> None:
    plain = calibration_of(split(30, 30), TINY, 20).sha256
    assert calibration_of(split(30, 30, shade=1), TINY, 20).sha256 != plain
    renamed = replace(split(30, 30), name="other {}".format)
    assert calibration_of(renamed, TINY, 20).sha256 != plain
    assert calibration_of(split(30, 30), TINY, 21).sha256 != plain


def test_only_images_that_are_taken_are_opened(split: Callable[..., Split]) -> None:
    whole, opened = split(500, 500), list[int]()

    def image(i: int) -> Image.Image:
        opened.append(i)
        return whole.image(i)

    calibration_of(replace(whole, image=image), TINY, 10)
    assert len(opened) == 20


def test_too_few_images_are_refused_with_a_number_that_works(split: Callable[..., Split]) -> None:
    with pytest.raises(DataError) as error:
        calibration_of(split(50, 50), TINY, 90)
    assert "on 90 training images" in str(error.value)
    assert "found 100" in str(error.value)
    assert "--calibration 80." in str(error.value)
    assert len(calibration_of(split(50, 50), TINY, 80).held_out) == 20


def test_an_image_that_cannot_be_read_is_named(split: Callable[..., Split]) -> None:
    def broken(i: int) -> Image.Image:
        raise OSError("image file is truncated")

    with pytest.raises(DataError, match=r"cannot read image image \d+: image file is truncated"):
        calibration_of(replace(split(30, 30), image=broken), TINY, 20)
