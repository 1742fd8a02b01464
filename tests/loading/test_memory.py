"""Batches from memory are what torchvision would have made of the same draws, and only faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare
from torch import Tensor
from torchvision.transforms import functional as tv

from edgekd.data import Batch, Images
from edgekd.loading.memory import (
    EvalLoader,
    Normalise,
    Share,
    Shift,
    TrainLoader,
    stored_bytes,
)
from edgekd.preprocess import Preprocess

ImagesOf = Callable[[int, int], Images]
Square = Callable[[int], Preprocess]
BOTH = Shift(2, mirror=True)


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.image, y.image)
        and torch.equal(x.target, y.target)
        and torch.equal(x.index, y.index)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize(
    ("name", "side", "reach", "mirror"),
    [
        ("none", 32, 0, False),
        ("shift", 8, 1, False),
        ("shift", 4, 1, False),
        ("shift+flip", 32, 4, True),
        ("shift+flip", 224, 28, True),
    ],
)
def test_an_augmentation_is_named(name: str, side: int, reach: int, mirror: bool) -> None:
    assert Shift.named(name, side) == Shift(reach, mirror)


def test_normalising_is_the_formula_of_the_papers(images_of: ImagesOf, square: Square) -> None:
    pixels, preprocess = images_of(5, 8).pixels, square(8)
    found = Normalise(preprocess)(pixels)
    mean, std = np.array(preprocess.mean), np.array(preprocess.std)
    expected = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)  # float64
    assert np.abs(found.numpy() - expected).max() < 1e-6
    assert found.dtype == torch.float32
    assert found.shape == (5, 3, 8, 8)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(Normalise(preprocess)(torch.from_numpy(pixels)), found)


def test_images_need_not_be_square() -> None:
    pixels = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    found = Normalise(Preprocess((4, 6), (0.0,) * 3, (1.0,) * 3))(pixels)
    assert torch.allclose(found * 255, torch.from_numpy(pixels).permute(0, 3, 1, 2).float())


@pytest.mark.parametrize("shift", [Shift(0, False), Shift(3, False), Shift(3, True)])
def test_batches_equal_torchvision_s_crop_flip_and_normalise(
    images_of: ImagesOf, square: Square, shift: Shift
) -> None:
    images, preprocess, seed, epoch = images_of(20, 8), square(8), 5, 3
    loader = TrainLoader(images, preprocess, 6, shift, seed)
    draw = np.random.default_rng([seed, epoch])
    order = draw.permutation(20)
    down, right = draw.integers(0, 2 * shift.reach + 1, (2, 20))
    mirror = draw.integers(0, 2, 20) if shift.mirror else np.zeros(20)

    def usual(place: int) -> Tensor:
        image = Image.fromarray(images.pixels[order[place]])
        image = tv.pad(image, shift.reach)
        image = tv.crop(image, int(down[place]), int(right[place]), 8, 8)
        image = tv.hflip(image) if mirror[place] else image
        made: Tensor = tv.normalize(tv.to_tensor(image), preprocess.mean, preprocess.std)
        return made

    batches = list(loader.epoch(epoch))
    assert len(batches) == len(loader) == 3  # the last two images are dropped
    for step, batch in enumerate(batches):
        expected = torch.stack([usual(place) for place in range(6 * step, 6 * step + 6)])
        assert (batch.image - expected).abs().max() < 1e-6
        assert batch.index.tolist() == order[6 * step : 6 * step + 6].tolist()
        assert batch.target.tolist() == images.targets[batch.index.numpy()].tolist()
        assert batch.image.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_is_the_same_every_time_and_from_any_start(
    images_of: ImagesOf, square: Square
) -> None:
    loader = TrainLoader(images_of(23, 8), square(8), 4, BOTH, seed=1)
    again = TrainLoader(images_of(23, 8), square(8), 4, BOTH, seed=1)
    whole = list(loader.epoch(2))
    assert same(list(again.epoch(2)), whole)
    for start in range(6):
        assert same(list(loader.epoch(2, start)), whole[start:])


def test_epochs_and_seeds_differ(images_of: ImagesOf, square: Square) -> None:
    loader = TrainLoader(images_of(23, 8), square(8), 4, BOTH, seed=1)
    other = TrainLoader(images_of(23, 8), square(8), 4, BOTH, seed=2)
    first = list(loader.epoch(0))
    assert not same(list(loader.epoch(1)), first)
    assert not same(list(other.epoch(0)), first)


def test_an_epoch_shows_no_image_twice(images_of: ImagesOf, square: Square) -> None:
    loader = TrainLoader(images_of(23, 8), square(8), 4, BOTH, seed=1)
    index = torch.cat([batch.index for batch in loader.epoch(0)]).tolist()
    assert len(index) == len(set(index)) == 20


def test_a_batch_larger_than_the_set_is_the_set(images_of: ImagesOf, square: Square) -> None:
    loader = TrainLoader(images_of(5, 8), square(8), 64, BOTH, seed=0)
    (batch,) = loader.epoch(0)
    assert sorted(batch.index.tolist()) == [0, 1, 2, 3, 4]


def test_every_shift_and_mirroring_is_equally_likely() -> None:
    """Read each image's place off a picture whose pixels say where they were."""
    side, reach, count = 16, 2, 5000
    rows, columns = np.mgrid[:side, :side].astype(np.uint8)
    map_ = np.stack([rows, columns, np.full_like(rows, 7)], axis=2)
    images = Images(np.repeat(map_[None], count, 0), np.zeros(count, np.int64))
    plain = Preprocess((side, side), (0.0,) * 3, (1 / 255,) * 3)  # pixels as they are
    loader = TrainLoader(images, plain, 500, Shift(reach, mirror=True), seed=0)
    cells: dict[tuple[int, int, bool], int] = {}
    for batch in loader.epoch(0):
        centre = batch.image[:, :, 8, 8].round().int()  # (B, 3)
        mirrored = batch.image[:, 1, 8, 7] > batch.image[:, 1, 8, 8]
        for (y, x, _), turned in zip(centre.tolist(), mirrored.tolist(), strict=True):
            cell = (y - 8, x - (7 if turned else 8), bool(turned))
            cells[cell] = cells.get(cell, 0) + 1
    assert {abs(move) for y, x, _ in cells for move in (y, x)} == {0, 1, 2}
    assert len(cells) == 2 * (2 * reach + 1) ** 2
    assert chisquare(list(cells.values())).pvalue > 0.01


def test_what_is_shifted_in_is_black(square: Square) -> None:
    white = Images(np.full((64, 8, 8, 3), 255, np.uint8), np.zeros(64, np.int64))
    preprocess = square(8)
    (batch,) = TrainLoader(white, preprocess, 64, Shift(1, False), 0).epoch(0)
    black = Normalise(preprocess)(np.zeros((1, 8, 8, 3), np.uint8))[0]
    corners = batch.image[:, :, 0, 0]
    assert any(torch.equal(corner, black[:, 0, 0]) for corner in corners)


@pytest.mark.parametrize("world", [1, 2])
def test_mirroring_on_the_fly_equals_the_mirrored_copy(
    images_of: ImagesOf, square: Square, world: int
) -> None:
    made = [
        TrainLoader(
            images_of(23, 8),
            square(8),
            6,
            BOTH,
            4,
            mirrored_copy=copy,
            share=Share(world - 1, world),
        )
        for copy in (True, False)
    ]
    assert same(*(list(loader.epoch(1)) for loader in made))


@pytest.mark.parametrize("loader", ["train", "eval"])
@pytest.mark.parametrize(("world", "batch_size"), [(2, 6), (2, 5), (3, 4), (2, 22)])
def test_the_processes_shares_make_up_the_batch(
    images_of: ImagesOf, square: Square, loader: str, world: int, batch_size: int
) -> None:
    def batches(share: Share) -> list[Batch]:
        if loader == "train":
            train = TrainLoader(images_of(23, 8), square(8), batch_size, BOTH, 4, share=share)
            return list(train.epoch(1))
        return list(EvalLoader(images_of(23, 8), square(8), batch_size, share).epoch())

    shares = [batches(Share(rank, world)) for rank in range(world)]
    for step, whole in enumerate(batches(Share())):
        for rank, own in enumerate(shares):
            assert torch.equal(own[step].image, whole.image[rank::world])
            assert torch.equal(own[step].target, whole.target[rank::world])
            assert torch.equal(own[step].index, whole.index[rank::world])


@pytest.mark.parametrize("batch_size", [1, 4, 23, 64])
def test_evaluation_shows_every_image_once_in_order(
    images_of: ImagesOf, square: Square, batch_size: int
) -> None:
    images, preprocess = images_of(23, 8), square(8)
    loader = EvalLoader(images, preprocess, batch_size)
    batches = list(loader.epoch())
    assert len(batches) == len(loader)
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(23))
    assert torch.cat([batch.target for batch in batches]).tolist() == images.targets.tolist()
    shown = torch.cat([batch.image for batch in batches])
    assert torch.equal(shown, Normalise(preprocess)(images.pixels))
    assert same(list(loader.epoch(5, start=1)), batches[1:])


@pytest.mark.parametrize("shift", [Shift(0, False), Shift(2, False), Shift(2, True)])
@pytest.mark.parametrize("copies", [1, 2])
def test_the_memory_is_foretold(
    images_of: ImagesOf, square: Square, shift: Shift, copies: int
) -> None:
    loader: Any = TrainLoader(images_of(5, 8), square(8), 2, shift, 0, mirrored_copy=copies == 2)
    used = 2 if copies == 2 and shift.mirror else 1
    assert loader._stored.nbytes == stored_bytes(5, (8, 8), shift, used)
    fixed: Any = TrainLoader(images_of(5, 8), square(8), 2, shift, 0, fixed_views=7)
    table = stored_bytes(5, (8, 8), shift, 1, 7) - stored_bytes(5, (8, 8), shift, 1)
    assert (fixed._fixed.nbytes, fixed._fixed.dtype) == (table, np.int16)


def test_the_digest_is_of_the_pixels_and_not_of_their_copies(
    images_of: ImagesOf, square: Square
) -> None:
    both = [
        TrainLoader(images_of(5, 8), square(8), 2, Shift(1, True), 0, mirrored_copy=copy).digest()
        for copy in (True, False)
    ]
    assert both[0] == both[1]
    darker = Images(images_of(5, 8).pixels // 2, images_of(5, 8).targets)
    assert TrainLoader(darker, square(8), 2, Shift(1, True), 0).digest() != both[0]
