"""What fits into memory is decoded once; the rest is streamed; both show the same images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from edgekd.data import Split
from edgekd.loading import Splits, eval_loader, loaders
from edgekd.loading.memory import EvalLoader, Share, TrainLoader
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


STILL = 10 * SIDE * SIDE * 3
"""Bytes of the validation and the test images."""


@pytest.mark.parametrize(
    ("gigabytes", "copies", "validation", "test"),
    [
        (20 * PADDED + STILL, 2, True, True),
        (20 * PADDED + STILL - 1, 1, True, True),
        (10 * PADDED + STILL, 1, True, True),
        (10 * PADDED + STILL - 1, 1, True, False),
        (10 * PADDED, 1, False, False),
        (10 * PADDED - 1, 0, True, True),
        (STILL - 1, 0, True, False),
        (1, 0, False, False),
    ],
)
def test_memory_is_divided_among_the_splits_and_the_mirrored_copy_is_given_up_first(
    splits: Splits,
    square: Callable[[int], Preprocess],
    gigabytes: int,
    copies: int,
    validation: bool,
    test: bool,
) -> None:
    found: Any = made(splits, square, gigabytes / 1e9)
    assert getattr(found.train, "_copies", 0) == copies
    assert isinstance(found.train, TrainLoader if copies else StreamLoader)
    assert isinstance(found.validation, EvalLoader if validation else StreamLoader)
    assert isinstance(found.test, EvalLoader if test else StreamLoader)


def test_what_the_loader_shows_does_not_depend_on_the_copy(
    splits: Splits, square: Callable[[int], Preprocess]
) -> None:
    roomy, tight = (made(splits, square, (n * PADDED + STILL) / 1e9).train for n in (20, 10))
    assert roomy._copies == 2 > tight._copies
    for a, b in zip(roomy.epoch(1), tight.epoch(1), strict=True):
        assert torch.equal(a.image, b.image)


@pytest.mark.parametrize("room", [20 * PADDED + STILL, 10 * PADDED, 10 * PADDED - 1])
def test_so_many_processes_keep_the_training_images_that_one_keeps(
    splits: Splits, square: Callable[[int], Preprocess], room: int
) -> None:
    """Streamed, they would be drawn in another way; what is shown to two is what one is shown."""
    alone = made(splits, square, room / 1e9)
    data, train = Data(memory_gb=room / 1e9, workers=0), Train(batch_size=4, seed=3)
    one, other = (
        loaders(splits, square(SIDE), data, train, Share(rank, 2, 2)) for rank in range(2)
    )
    assert type(one.train) is type(other.train) is type(alone.train)
    assert getattr(one.train, "_copies", 0) == min(1, getattr(alone.train, "_copies", 0))
    for whole, *parts in zip(*(each.train.epoch(1) for each in (alone, one, other)), strict=True):
        for rank, part in enumerate(parts):
            assert torch.equal(part.image, whole.image[rank::2])
    if room < 10 * PADDED:
        assert isinstance(alone.validation, EvalLoader)


def test_what_is_advised_is_enough_and_can_be_done(
    monkeypatch: pytest.MonkeyPatch, splits: Splits, square: Callable[[int], Preprocess]
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    wide, train = square(40), Train(batch_size=4)

    def streamed(workers: int, neighbours: int) -> StreamLoader:
        data = Data(memory_gb=1e-9, workers=workers)
        found = loaders(splits, wide, data, train, Share(0, neighbours, neighbours)).train
        assert isinstance(found, StreamLoader)
        return found

    assert streamed(1, 2).advice.startswith("raise data.workers (now 1; there are 4 CPUs), or low")
    for workers, neighbours in ((4, 1), (2, 2)):
        advice = streamed(workers, neighbours).advice
        assert advice.startswith(
            "lower data.size (now 40), or raise data.memory_gb (now 1e-09) to "
        )
        enough = float(advice.rpartition(" to ")[2].partition(",")[0])
        data = Data(memory_gb=enough, workers=workers)
        kept = loaders(splits, wide, data, train, Share(0, neighbours, neighbours))
        for loader in (kept.train, kept.validation, kept.test):
            assert not isinstance(loader, StreamLoader)


def test_the_augmentation_of_timm_is_always_streamed(
    splits: Splits, square: Callable[[int], Preprocess]
) -> None:
    timm = Splits(splits.labels, splits.train, splits.validation, splits.test, "timm")
    assert isinstance(made(timm, square, 4).train, StreamLoader)


def test_evaluation_is_in_memory_where_it_fits(
    splits: Splits, square: Callable[[int], Preprocess]
) -> None:
    found = made(splits, square, 9 * SIDE * SIDE * 3 / 1e9)
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
