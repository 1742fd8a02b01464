"""Inputs in the shape that a model takes."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.agent import feeds
from edgekd.agent.failures import AgentError
from edgekd.agent.feeds import ImageInput, Normalise
from edgekd.agent.runtimes import TensorSpec

NHWC = TensorSpec("x", "uint8", (None, 8, 6, 3))
NCHW = TensorSpec("x", "float32", (1, 3, 8, 6))
TOKENS = TensorSpec("ids", "int64", (None, 16))


def test_pictures_are_recognised() -> None:
    assert feeds.image_input([NHWC], None, "m") == ImageInput("x", "uint8", True, None, 8, 6)
    assert feeds.image_input([NCHW], None, "m") == ImageInput("x", "float32", False, 1, 8, 6)


@pytest.mark.parametrize(
    "inputs",
    [
        [TOKENS],
        [NHWC, TOKENS],
        [TensorSpec("x", "float32", (1, 1, 28, 28))],
        [TensorSpec("x", "int32", (1, 3, 8, 8))],
    ],
)
def test_what_is_no_picture_is_named(inputs: list[TensorSpec]) -> None:
    with pytest.raises(AgentError, match=r"m takes (ids|x): .*--input random") as caught:
        feeds.image_input(inputs, None, "m")
    assert str(inputs[-1]) in str(caught.value)


def test_a_free_size_has_to_be_given() -> None:
    free = TensorSpec("x", "float32", (None, 3, None, None))
    with pytest.raises(AgentError, match="--image-size 224"):
        feeds.image_input([free], None, "m")
    assert feeds.image_input([free], (5, 7), "m").width == 7


def test_random_input_is_not_advised_where_it_cannot_be_made() -> None:
    free = TensorSpec("x", "float32", (None, None, None, None))
    for found in (
        lambda: feeds.image_input([free], (8, 8), "m"),
        lambda: feeds.random_feed([free], 1, "m", 0, (8, 8)),
    ):
        with pytest.raises(AgentError, match="only the first one, and the height and") as caught:
            found()
        assert "--input random" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "made"),
    [((None, 3, None, None), (2, 3, 5, 7)), ((None, None, 9, 3), (2, 5, 9, 3))],
)
def test_random_input_has_the_size_that_is_left_free(
    shape: tuple[int | None, ...], made: tuple[int, ...]
) -> None:
    feed = feeds.random_feed([TensorSpec("x", "float32", shape)], 2, "m", 0, (5, 7))
    assert feed["x"].shape == made


def test_a_fixed_batch_is_not_overruled() -> None:
    assert feeds.batch_of(None, 4, "m") == 4
    with pytest.raises(AgentError, match="exported for batches of 8, and 1 was asked for"):
        feeds.batch_of(8, 1, "m")


def test_preprocessing_by_hand() -> None:
    image = np.arange(2 * 8 * 6 * 3).reshape(2, 8, 6, 3).astype(np.uint8)
    normalise = Normalise((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    target = feeds.image_input([NCHW], None, "m")
    found = feeds.to_input(image, target, normalise)
    assert (found.shape, found.dtype) == ((2, 3, 8, 6), np.float32)
    assert found.flags.c_contiguous
    assert found[1, 2, 3, 4] == pytest.approx((image[1, 3, 4, 2] / 255 - 0.3) / 0.3, abs=1e-6)
    raw = feeds.to_input(image, feeds.image_input([NHWC], None, "m"), normalise)
    assert np.array_equal(raw, image)  # a model with its own preprocessing gets bytes


def test_preprocessing_that_cannot_be_read() -> None:
    with pytest.raises(AgentError, match="three numbers each"):
        Normalise.from_table({"mean": [0.5]})


@pytest.mark.parametrize("shape", [(4, 8, 8, 3), (4, 3, 8, 6), (8, 6, 3), (0, 8, 6, 3)])
def test_images_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    target = feeds.image_input([NHWC], None, "m")
    with pytest.raises(AgentError, match=r"m takes uint8 \(N, 8, 6, 3\)"):
        feeds.check_images(np.zeros(shape, np.uint8), target, "m")


def test_crops_are_seeded_pieces_of_the_photographs() -> None:
    photos = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    target = feeds.image_input([NHWC], None, "m")
    found = feeds.crops(photos, target, 5, seed=1)
    assert found.shape == (5, 8, 6, 3)
    assert np.array_equal(found, feeds.crops(photos, target, 5, seed=1))
    assert not np.array_equal(found, feeds.crops(photos, target, 5, seed=2))
    pixels = {tuple(pixel) for pixel in photos.reshape(-1, 3).tolist()}
    assert {tuple(pixel) for pixel in found.reshape(-1, 3).tolist()} <= pixels
    large = ImageInput("x", "uint8", True, None, 100, 90)
    assert feeds.crops(photos, large, 1, seed=1).shape == (1, 100, 90, 3)


class Unread:
    """Photographs that nobody may look at."""

    shape, dtype = (1, 4, 4, 3), np.uint8


def test_crops_beyond_all_memory_are_refused_before_any_is_made() -> None:
    with pytest.raises(MemoryError):
        feeds.crops(Unread(), ImageInput("x", "uint8", True, None, 10**3, 10**3), 10**12, seed=1)


def test_a_pool_cycles_through_few_images() -> None:
    images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1) * np.ones((1, 8, 6, 3), np.uint8)
    found = feeds.pool(images, feeds.image_input([NHWC], None, "m"), 2, Normalise())
    assert [feed["x"][:, 0, 0, 0].tolist() for feed in found] == [[0, 1], [2, 0]]


def test_random_feeds_for_anything() -> None:
    feed = feeds.random_feed([NHWC, TOKENS], 2, "m", seed=0)
    assert (feed["x"].shape, feed["x"].dtype) == ((2, 8, 6, 3), np.uint8)
    assert (feed["ids"].shape, feed["ids"].dtype) == ((2, 16), np.int64)
    assert set(np.unique(feed["ids"])) <= {0, 1}
    with pytest.raises(AgentError, match="random data cannot stand in"):
        feeds.random_feed([TensorSpec("s", "string", (1,))], 1, "m", seed=0)
    with pytest.raises(AgentError, match="Export it for numbers, and with fixed sizes"):
        feeds.random_feed([TensorSpec("x", "float32", (1, None))], 1, "m", seed=0)
