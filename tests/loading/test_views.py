"""Views: a key stands for one picture, and a picture has one key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from edgekd.data import Batch, Images, Split
from edgekd.loading import Splits, loaders
from edgekd.loading.memory import EvalLoader, Share, Shift, TrainLoader
from edgekd.preprocess import Preprocess
from edgekd.recipe import Data, Train

ImagesOf = Callable[[int, int], Images]
Square = Callable[[int], Preprocess]
SHIFTS = [Shift(0, False), Shift(0, True), Shift(1, False), Shift(1, True)]


def all_of(loader: TrainLoader, epochs: int) -> list[Batch]:
    return [batch for epoch in range(epochs) for batch in loader.epoch(epoch)]


def shown(batches: list[Batch]) -> dict[int, set[bytes]]:
    """Key -> the pictures that were shown under it."""
    found: dict[int, set[bytes]] = {}
    for batch in batches:
        assert batch.key is not None
        assert batch.key.dtype == torch.int64
        for key, image in zip(batch.key.tolist(), batch.image, strict=True):
            found.setdefault(key, set()).add(image.contiguous().numpy().tobytes())
    return found


@pytest.mark.parametrize("fixed", [0, 3])
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_key_is_one_picture_and_a_picture_one_key(
    images_of: ImagesOf, square: Square, shift: Shift, fixed: int
) -> None:
    loader = TrainLoader(images_of(7, 8), square(8), 7, shift, 3, fixed_views=fixed)
    found = shown(all_of(loader, 300))
    assert all(len(pictures) == 1 for pictures in found.values())
    assert loader.views == (fixed or shift.views)
    assert set(found) <= set(range(7 * loader.views))
    if not fixed:  # of fixed views, two may be drawn alike
        assert len(found) == 7 * loader.views
        assert len(set().union(*found.values())) == len(found)


@pytest.mark.parametrize("copy", [True, False])
def test_keys_do_not_depend_on_how_images_are_stored_or_shared(
    images_of: ImagesOf, square: Square, copy: bool
) -> None:
    shift, made = Shift(1, True), (images_of(23, 8), square(8), 6)
    whole = TrainLoader(*made, shift, 4)
    for rank in range(2):
        share = Share(rank, 2)
        own = TrainLoader(*made, shift, 4, mirrored_copy=copy, share=share)
        for one, other in zip(own.epoch(2), whole.epoch(2), strict=True):
            assert one.key is not None
            assert other.key is not None
            assert torch.equal(one.key, other.key[rank::2])
            assert torch.equal(one.key // whole.views, one.index)


def test_keys_of_other_seeds_and_batch_sizes_are_the_same_pictures(
    images_of: ImagesOf, square: Square
) -> None:
    made = [
        TrainLoader(images_of(7, 8), square(8), b, Shift(1, True), s) for b, s in ((7, 1), (3, 2))
    ]
    one, other = (shown(all_of(loader, 100)) for loader in made)
    both = one.keys() & other.keys()
    assert len(both) > 50
    assert all(one[key] == other[key] for key in both)


def test_without_fixed_views_the_draws_are_what_they_were(
    images_of: ImagesOf, square: Square
) -> None:
    loader = TrainLoader(images_of(11, 8), square(8), 11, Shift(2, True), 5)
    draw = np.random.default_rng([5, 3])
    order = draw.permutation(11)
    down, right = draw.integers(0, 5, (2, 11))
    mirror = draw.integers(0, 2, 11)
    (batch,) = loader.epoch(3)
    assert batch.key is not None
    assert batch.key.tolist() == (order * 50 + (down * 5 + right) * 2 + mirror).tolist()


def test_fixed_views_are_drawn_evenly_and_every_image_has_its_own(
    images_of: ImagesOf, square: Square
) -> None:
    """81 offsets, mirrored or not, over the views of all images; and each view as often."""
    count, views = 400, 16
    loader: Any = TrainLoader(
        images_of(count, 8), square(8), count, Shift(4, True), 0, fixed_views=views
    )
    down, right, mirror = loader._fixed
    cells = np.bincount(((down * 9 + right) * 2 + mirror).ravel(), minlength=162)
    assert len(cells) == 162
    assert chisquare(cells).pvalue > 0.01
    own = {tuple(column) for column in loader._fixed.transpose(2, 0, 1).reshape(count, -1)}
    assert len(own) == count
    keys = torch.cat([batch.key for batch in all_of(loader, 20) if batch.key is not None])
    drawn = np.bincount(keys.numpy() % views, minlength=views)
    assert chisquare(drawn).pvalue > 0.01


def test_fixed_views_stay_the_same_when_there_are_more(images_of: ImagesOf, square: Square) -> None:
    few, many = (
        TrainLoader(images_of(9, 8), square(8), 9, Shift(2, True), 1, fixed_views=k) for k in (2, 8)
    )
    one, other = shown(all_of(few, 30)), shown(all_of(many, 200))
    for key, pictures in one.items():
        assert other[key // 2 * 8 + key % 2] == pictures


@pytest.mark.parametrize(
    ("augment", "fixed", "memory_gb", "views"),
    [
        ("none", 0, 1.0, 1),
        ("shift", 0, 1.0, 25),
        ("shift+flip", 0, 1.0, 50),
        ("shift+flip", 0, 1e-9, 50),
        ("shift+flip", 4, 1.0, 4),
        ("shift", 4, 1e-9, 4),
        ("shift", 10_000, 1.0, 25),
        ("none", 16, 1.0, 1),
        ("shift+flip", 51, 1e-9, 50),
        ("timm", 0, 1.0, 0),
        ("timm", 4, 1.0, 4),
    ],
)
def test_what_a_recipe_makes(
    split_of: Callable[..., Split],
    square: Square,
    augment: str,
    fixed: int,
    memory_gb: float,
    views: int,
) -> None:
    train, validation, test = (split_of([0, 1] * count, 16) for count in (5, 2, 3))
    splits = Splits(("a", "b"), train, validation, test, augment)
    data = Data(memory_gb=memory_gb, workers=0, teacher_views=fixed)
    loader = loaders(splits, square(16), data, Train(batch_size=4, seed=3)).train
    assert loader.views == views
    pictures = shown(all_of(loader, 3)) if views else {}  # type: ignore[arg-type]
    assert all(len(same) == 1 for same in pictures.values())
    assert all(0 <= key < 10 * views for key in pictures)
    if not views:
        assert next(iter(loader.epoch(0))).key is None


def test_evaluation_shows_each_image_in_one_way(images_of: ImagesOf, square: Square) -> None:
    assert EvalLoader(images_of(5, 8), square(8)).views == 1
