"""What fits into memory is decoded once; the rest is streamed; both show the same images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from edgekd.data import Split
from edgekd.loading import Splits, eval_loader, loaders
from edgekd.loading.memory import EvalLoader, TrainLoader
from edgekd.loading.stream import StreamLoader
from edgekd.preprocess import Preprocess
from edgekd.recipe import Data, Train

SIDE = 16
PADDED = 20 * 20 * 3
"""Bytes of one image with an eighth of its side on each side."""


@pytest.fixture
def splits(split_of: Callable[..., Split]) -> Splits:
    train, validation, test = (split_of([0, 1] * count, SIDE) for count in (5, 2, 3))
    return Splits(("a", "b"), train, validation, test, "shift+flip")


def made(splits: Splits, square: Callable[[int], Preprocess], gigabytes: float) -> Any:
    data = Data(memory_gb=gigabytes, workers=0)
    return loaders(splits, square(SIDE), data, Train(batch_size=4, seed=3))


@pytest.mark.parametrize(
    ("images", "kind", "copies"),
    [(20, TrainLoader, 2), (19, TrainLoader, 1), (10, TrainLoader, 1), (9, StreamLoader, 0)],
)
def test_the_mirrored_copy_is_given_up_first_and_memory_next(
    splits: Splits, square: Callable[[int], Preprocess], images: int, kind: Any, copies: int
) -> None:
    train: Any = made(splits, square, images * PADDED / 1e9).train
    assert isinstance(train, kind)
    if copies:
        assert train._copies == copies


def test_what_the_loader_shows_does_not_depend_on_the_copy(
    splits: Splits, square: Callable[[int], Preprocess]
) -> None:
    roomy, tight = (made(splits, square, n * PADDED / 1e9).train for n in (20, 10))
    for a, b in zip(roomy.epoch(1), tight.epoch(1), strict=True):
        assert torch.equal(a.image, b.image)


def test_the_augmentation_of_timm_is_always_streamed(
    splits: Splits, square: Callable[[int], Preprocess]
) -> None:
    timm = Splits(splits.labels, splits.train, splits.validation, splits.test, "timm")
    assert isinstance(made(timm, square, 4).train, StreamLoader)


def test_evaluation_is_in_memory_where_it_fits(
    splits: Splits, square: Callable[[int], Preprocess]
) -> None:
    found = made(splits, square, 5 * SIDE * SIDE * 3 / 1e9)
    assert isinstance(found.validation, EvalLoader)  # 4 images
    assert isinstance(found.test, StreamLoader)  # 6
    data = Data(workers=0)
    kept = eval_loader(splits.test, square(SIDE), data)
    assert isinstance(kept, EvalLoader)
    for a, b in zip(kept.epoch(0), found.test.epoch(0), strict=True):
        assert torch.equal(a.image, b.image)


def test_decoding_reports_every_image(splits: Splits, square: Callable[[int], Preprocess]) -> None:
    ticks: list[int] = []
    loaders(splits, square(SIDE), Data(), Train(), tick=lambda: ticks.append(1))
    assert len(ticks) == 20
