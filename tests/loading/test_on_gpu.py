"""Batches made on a device are those of the loaders in memory; here the device is the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from edgekd.data import Batch, Images
from edgekd.loading import loaders, on_gpu
from edgekd.loading.memory import EvalLoader, Share, Shift, TrainLoader
from edgekd.loading.on_gpu import DeviceEvalLoader, DeviceLoader, placed
from edgekd.loading.splits import Splits
from edgekd.preprocess import Preprocess
from edgekd.recipe import Data, Train

ImagesOf = Callable[[int, int], Images]
Square = Callable[[int], Preprocess]
CPU = torch.device("cpu")


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        for name in ("image", "target", "index", "key"):
            a, b = getattr(one, name), getattr(other, name)
            assert (a is None) == (b is None)
            assert a is None or torch.equal(a, b)
        assert not len(one.image) or one.image.is_contiguous(memory_format=torch.channels_last)
        assert one.image.dtype == torch.float32


@pytest.mark.parametrize("share", [Share(), Share(1, 2), Share(2, 3)])
@pytest.mark.parametrize("mirrored_copy", [True, False])
@pytest.mark.parametrize("shift", [Shift(0, False), Shift(2, False), Shift(2, True)])
def test_the_pixels_are_those_of_the_loader_in_memory(
    images_of: ImagesOf, square: Square, shift: Shift, mirrored_copy: bool, share: Share
) -> None:
    plan = TrainLoader(
        images_of(23, 8), square(8), 6, shift, 4, mirrored_copy=mirrored_copy, share=share
    )
    made = DeviceLoader(plan, CPU)
    for epoch, start in ((0, 0), (1, 0), (1, 2)):
        assert_same(list(made.epoch(epoch, start)), list(plan.epoch(epoch, start)))
    assert len(made) == len(plan)
    assert made.digest() == plan.digest()
    assert made.views == plan.views
    assert torch.equal(made.targets, plan.targets)


def test_images_need_not_be_square(images_of: ImagesOf) -> None:
    images = images_of(9, 8)
    flat = Images(images.pixels[:, :5], images.targets)
    preprocess = Preprocess((5, 8), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    plan = TrainLoader(flat, preprocess, 4, Shift(1, True), 0)
    assert_same(list(DeviceLoader(plan, CPU).epoch(3)), list(plan.epoch(3)))


@pytest.mark.parametrize("share", [Share(), Share(1, 2), Share(2, 3)])
@pytest.mark.parametrize("batch_size", [4, 11, 64])
def test_evaluation_shows_the_same(
    images_of: ImagesOf, square: Square, batch_size: int, share: Share
) -> None:
    plan = EvalLoader(images_of(23, 8), square(8), batch_size, share)
    made = DeviceEvalLoader(plan, CPU)
    assert_same(list(made.epoch()), list(plan.epoch()))
    assert_same(list(made.epoch(1, len(made) - 1)), list(plan.epoch(1, len(made) - 1)))
    assert made.digest() == plan.digest()


def test_nothing_is_placed_where_the_training_is_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, images_of: ImagesOf, square: Square
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    train = TrainLoader(images_of(9, 8), square(8), 4, Shift(1, True), 0)
    rest = EvalLoader(images_of(9, 8), square(8))
    assert placed((train, rest, rest), CPU) == (train, rest, rest)


def test_what_does_not_fit_stays_where_it_is(images_of: ImagesOf, square: Square) -> None:
    train = TrainLoader(images_of(9, 8), square(8), 4, Shift(1, True), 0)
    rest = EvalLoader(images_of(9, 8), square(8))
    room = train.pixels.nbytes + 5
    moved, left = on_gpu._placed(train, CPU, room)
    assert isinstance(moved, DeviceLoader)
    assert left == 5
    assert on_gpu._placed(rest, CPU, left) == (rest, 5)
    assert on_gpu._placed(train, CPU, room - 6) == (train, room - 6)


def test_a_gpu_is_asked_for_a_quarter_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4000, 1 << 40))
    assert on_gpu._room(torch.device("cuda", 1)) == 1000
    assert on_gpu._room(CPU) == 0


def test_what_fits_a_gpu_is_placed_the_first_first(
    monkeypatch: pytest.MonkeyPatch, split_of: Any, square: Square
) -> None:
    """The GPU is made up; its memory is the CPU's."""
    split = split_of([0, 1, 2] * 4)
    splits = Splits(("a", "b", "c"), split, split, split, "shift+flip")
    plain = loaders(splits, square(16), Data(), Train(batch_size=4))
    pixels = [loader.pixels.nbytes for loader in (plain.train, plain.validation)]  # type: ignore[attr-defined]
    monkeypatch.setattr(on_gpu, "_room", lambda device: sum(pixels))
    monkeypatch.setattr("edgekd.loading.placed", lambda given, device: given)
    one = loaders(splits, square(16), Data(), Train(batch_size=4), device=torch.device("cuda"))
    assert one.train._copies == 1  # type: ignore[attr-defined]  # for a GPU mirrors by itself
    assert plain.train._copies == 2  # type: ignore[attr-defined]
    monkeypatch.setattr("edgekd.loading.placed", placed)
    made = loaders(splits, square(16), Data(), Train(batch_size=4))
    assert isinstance(made.train, DeviceLoader)
    assert isinstance(made.validation, DeviceEvalLoader)
    assert isinstance(made.test, EvalLoader)
    assert_same(list(made.train.epoch(1)), list(plain.train.epoch(1)))
