"""Streaming shows the same bytes whoever decodes, and what memory would have shown."""

from __future__ import annotations

import itertools
import random
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgekd.data import Batch, Images, Indices, Split
from edgekd.data.folder import folder
from edgekd.errors import DataError
from edgekd.loading.crew import Crew, Desk
from edgekd.loading.decode import decode
from edgekd.loading.memory import EvalLoader, Share, Shift, TrainLoader
from edgekd.loading.stream import AHEAD, StreamLoader, _timm_augmentation
from edgekd.preprocess import Preprocess

PREPROCESS = Preprocess((24, 24), (0.49, 0.48, 0.45), (0.25, 0.24, 0.26), "bicubic", 0.875)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    """The same 22 JPEGs of odd sizes in a folder and in a tar."""
    root = tmp_path_factory.mktemp("photos") / "pets"
    draw = np.random.default_rng(0)
    for name, count in (("cat", 12), ("dog", 10)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            coarse = draw.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((30 + i, 50 - i))
            image.save(root / name / f"{i}.jpg")
    with tarfile.open(root.with_suffix(".tar"), "w") as tar:
        tar.add(root, arcname=".")
    return {
        "folder": folder(str(root)).splits["train"],
        "tar": folder(str(root.with_suffix(".tar"))).splits["train"],
    }


def epoch(
    split: Split, augment: str, seed: int | None, workers: int = 0, number: int = 1, start: int = 0
) -> list[Batch]:
    loader = StreamLoader(split, PREPROCESS, 6, augment, seed, crew=Crew(workers))
    return list(loader.epoch(number, start))


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.image, y.image)
        and torch.equal(x.target, y.target)
        and torch.equal(x.index, y.index)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("place", ["folder", "tar"])
@pytest.mark.parametrize("augment", ["shift+flip", "timm"])
def test_the_bytes_are_the_same_for_any_number_of_workers(
    photos: dict[str, Split], place: str, augment: str
) -> None:
    alone = epoch(photos["folder"], augment, seed=7)
    assert len(alone) == 3  # the last four images are dropped
    for workers in (1, 2):
        assert same(epoch(photos[place], augment, 7, workers), alone)


@pytest.mark.parametrize("place", ["folder", "tar"])
@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_equals_that_from_memory_pixel_for_pixel(
    photos: dict[str, Split], place: str, workers: int
) -> None:
    kept = EvalLoader(decode(photos["folder"], PREPROCESS), PREPROCESS, 6)
    assert same(epoch(photos[place], "none", None, workers), list(kept.epoch()))


@pytest.mark.parametrize("augment", ["none", "shift", "timm"])
def test_an_epoch_is_the_same_from_any_start(photos: dict[str, Split], augment: str) -> None:
    whole = epoch(photos["folder"], augment, seed=7)
    for start in range(4):
        assert same(epoch(photos["folder"], augment, 7, start=start), whole[start:])


@pytest.mark.parametrize("augment", ["shift+flip", "timm"])
def test_epochs_and_seeds_differ(photos: dict[str, Split], augment: str) -> None:
    first = epoch(photos["folder"], augment, seed=7)
    assert not same(epoch(photos["folder"], augment, seed=8), first)
    assert not same(epoch(photos["folder"], augment, seed=7, number=2), first)


@pytest.mark.parametrize("augment", ["shift", "timm"])
def test_an_image_is_augmented_anew_in_each_epoch(photos: dict[str, Split], augment: str) -> None:
    first, second = (
        {
            index: image
            for batch in epoch(photos["folder"], augment, seed=7, number=number)
            for index, image in zip(batch.index.tolist(), batch.image, strict=True)
        }
        for number in (1, 2)
    )
    both = first.keys() & second.keys()
    assert len(both) > 10
    assert sum(torch.equal(first[index], second[index]) for index in both) < 3


def test_the_strongest_of_timms_operations_can_be_done(photos: dict[str, Split]) -> None:
    """At random, a few images in a thousand meet with an operation at its strongest."""
    image = photos["tar"].image(0).convert("RGB")
    transform: Any = _timm_augmentation(PREPROCESS)
    (operations,) = [step.ops for step in transform.transforms if hasattr(step, "ops")]
    assert len(operations) > 10
    for operation in operations:
        operation.prob, operation.magnitude, operation.magnitude_std = 1.0, 10, 0
        shown = np.asarray(operation(image))
        assert shown.shape == (*image.size[::-1], 3)
        assert shown.max() > 0, operation.name


def test_one_loader_serves_epoch_after_epoch(photos: dict[str, Split]) -> None:
    loader = StreamLoader(photos["tar"], PREPROCESS, 6, "shift+flip", 7, crew=Crew(2))
    for number in (1, 2, 1):
        fresh = epoch(photos["tar"], "shift+flip", 7, number=number)
        assert same(list(loader.epoch(number)), fresh)
    next(iter(loader.epoch(1)))  # an epoch that is cut short
    assert same(list(loader.epoch(2, 1)), epoch(photos["tar"], "shift+flip", 7, 0, 2, 1))
    assert len(loader) == 3


def test_the_global_generators_are_left_alone(photos: dict[str, Split]) -> None:
    def drawn() -> tuple[float, float, float]:
        return torch.rand(1).item(), np.random.random(), random.random()

    def seed() -> None:
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)

    seed()
    expected = drawn()
    seed()
    epoch(photos["folder"], "timm", seed=7)
    assert drawn() == expected


def test_shifting_moves_the_decoded_image_over_black(photos: dict[str, Split]) -> None:
    stills: Images = decode(photos["folder"], PREPROCESS)
    normalised = EvalLoader(stills, PREPROCESS, 22)
    (still,) = normalised.epoch()
    black = -torch.tensor(PREPROCESS.mean) / torch.tensor(PREPROCESS.std)
    padded = torch.nn.functional.pad(still.image - black.view(3, 1, 1), (3, 3, 3, 3))
    places = list(itertools.product(range(7), range(7), (False, True)))
    found: dict[int, list[tuple[int, int, bool]]] = {}
    for batch in epoch(photos["folder"], "shift+flip", seed=7):
        for image, index in zip(batch.image, batch.index.tolist(), strict=True):
            for y, x, turned in places:
                window = padded[index, :, y : y + 24, x : x + 24] + black.view(3, 1, 1)
                if torch.allclose(image, window.flip(2) if turned else window, atol=1e-5):
                    found.setdefault(index, []).append((y, x, turned))
    assert len(found) == 18
    assert all(len(matches) == 1 for matches in found.values())
    assert len({matches[0] for matches in found.values()}) > 10


@pytest.mark.parametrize("seed", [None, 7])
def test_the_processes_shares_make_up_the_batch(photos: dict[str, Split], seed: int | None) -> None:
    augment = "none" if seed is None else "shift+flip"
    for step, whole in enumerate(epoch(photos["tar"], augment, seed)):
        for rank in range(2):
            share = Share(rank, 2)
            loader = StreamLoader(photos["tar"], PREPROCESS, 6, augment, seed, share=share)
            (own,) = [batch for i, batch in enumerate(loader.epoch(1)) if i == step]
            assert torch.equal(own.image, whole.image[rank::2])
            assert torch.equal(own.index, whole.index[rank::2])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_in_one_line_by_a_worker_too(
    split_of: Callable[..., Split], workers: int
) -> None:
    noise = split_of([0, 1] * 4, 24)

    def image(i: int) -> Image.Image:
        if i == 5:
            raise OSError("image file is truncated")
        return noise.image(i)

    damaged = Split(noise.targets, image, noise.name)
    message = (
        "^cannot read image image 5: image file is truncated. "
        r"Expected a whole image file; replace it or take it out\.$"
    )
    with pytest.raises(DataError, match=message):
        epoch(damaged, "none", None, workers)


# ---- which view of which image ----


@pytest.mark.parametrize(("augment", "views"), [("none", 1), ("shift", 49), ("shift+flip", 98)])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_key_tells_the_view_and_is_the_one_of_memory(
    photos: dict[str, Split], augment: str, views: int, workers: int
) -> None:
    split, shift = photos["folder"], Shift.named(augment, 24)
    stream = StreamLoader(split, PREPROCESS, 6, augment, 7, crew=Crew(workers))
    kept = TrainLoader(decode(split, PREPROCESS), PREPROCESS, 6, shift, 7)
    assert stream.views == kept.views == views
    shown: dict[int, torch.Tensor] = {}
    for number in range(3):
        for batch in stream.epoch(number):
            assert batch.key is not None
            assert (batch.key // views == batch.index).all()
            for key, image in zip(batch.key.tolist(), batch.image, strict=True):
                assert torch.equal(shown.setdefault(key, image), image)
    for batch in itertools.chain.from_iterable(map(kept.epoch, range(40))):
        assert batch.key is not None
        for key, image in zip(batch.key.tolist(), batch.image, strict=True):
            assert torch.equal(shown.get(key, image), image)


def test_the_views_of_timm_cannot_be_counted_but_can_be_fixed(photos: dict[str, Split]) -> None:
    assert StreamLoader(photos["tar"], PREPROCESS, 6, "timm", 7).views == 0
    assert epoch(photos["tar"], "timm", 7)[0].key is None


@pytest.mark.parametrize("augment", ["shift+flip", "timm"])
def test_fixed_views_come_again_whatever_the_epoch_and_the_crew(
    photos: dict[str, Split], augment: str
) -> None:
    shown: dict[int, torch.Tensor] = {}
    drawn = []
    for workers, seed in ((2, 7), (0, 7)):
        crew = Crew(workers)
        loader = StreamLoader(photos["tar"], PREPROCESS, 6, augment, seed, fixed_views=3, crew=crew)
        assert loader.views == 3
        for batch in itertools.chain.from_iterable(map(loader.epoch, range(6))):
            assert batch.key is not None
            drawn += (batch.key % 3).tolist()
            for key, image in zip(batch.key.tolist(), batch.image, strict=True):
                assert torch.equal(shown.setdefault(key, image), image)
    assert len(shown) > 55  # of 66
    assert len({image.numpy().tobytes() for image in shown.values()}) > 50
    assert min(drawn.count(view) for view in range(3)) > len(drawn) / 5
    other = StreamLoader(photos["tar"], PREPROCESS, 6, augment, 8, fixed_views=3)
    for batch in other.epoch(0):
        assert batch.key is not None
        for key, image in zip(batch.key.tolist(), batch.image, strict=True):
            assert key not in shown or not torch.equal(shown[key], image)


def test_the_digest_is_of_the_images_and_not_of_how_they_are_shown(
    photos: dict[str, Split],
) -> None:
    split = photos["folder"]
    found = StreamLoader(split, PREPROCESS, 6, "shift", 7).digest()
    for batch_size, augment, seed in ((6, "shift", 7), (3, "none", 8), (22, "timm", None)):
        assert StreamLoader(split, PREPROCESS, batch_size, augment, seed).digest() == found
    smaller = Preprocess((16, 16), PREPROCESS.mean, PREPROCESS.std, "bicubic", 0.875)
    stamped = replace(split, stamp=lambda i: "written anew" if i == 3 else split.stamp(i))
    others = (
        StreamLoader(stamped, PREPROCESS, 6),
        StreamLoader(split, smaller, 6),
        StreamLoader(photos["tar"], PREPROCESS, 6),  # other names
        StreamLoader(split.subset(np.arange(21)), PREPROCESS, 6),
        StreamLoader(Split(1 - split.targets, split.image, split.name), PREPROCESS, 6),
        StreamLoader(Split(split.targets, lambda i: split.image(0), split.name), PREPROCESS, 6),
    )
    assert len({found, *(other.digest() for other in others)}) == 7


# ---- ahead ----


def test_images_are_decoded_ahead_into_the_next_epoch_and_never_twice(
    photos: dict[str, Split],
) -> None:
    seen: list[tuple[int, int]] = []

    class Watched(Crew):
        def ask(self, desk: Desk, epoch: int, index: Indices) -> None:
            seen.append((epoch, len(index)))
            super().ask(desk, epoch, index)

    crew = Watched(1)
    loader = StreamLoader(photos["tar"], PREPROCESS, 6, "shift", 7, crew=crew)
    still = StreamLoader(photos["tar"], PREPROCESS, 10, crew=crew)
    for number in range(4):
        assert same(list(loader.epoch(number)), epoch(photos["tar"], "shift", 7, 0, number))
        assert same(list(still.epoch()), list(StreamLoader(photos["tar"], PREPROCESS, 10).epoch()))
    shown = [(e, n) for e, n in seen if n == 6]
    assert shown == [(e, 6) for e in range(6) for _ in range(3)][: 4 * 3 + AHEAD]
    assert [n for _, n in seen if n != 6] == [10, 10, 2] * 4  # nothing beyond the one epoch
    assert len(crew.processes) == 1


def test_an_error_is_that_of_its_batch_and_the_loader_goes_on(
    split_of: Callable[..., Split],
) -> None:
    noise, opened = split_of([0, 1] * 4, 24), list[int]()

    def image(i: int) -> Image.Image:
        opened.append(i)
        if i == 5 and opened.count(5) == 1:
            raise OSError("not now")
        return noise.image(i)

    loader = StreamLoader(Split(noise.targets, image, noise.name), PREPROCESS, 2)
    batches = loader.epoch()
    assert [next(batches).index.tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(DataError, match="not now"):
        next(batches)
    assert [batch.index.tolist() for batch in loader.epoch()] == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_rate_is_what_the_crew_could_give(split_of: Callable[..., Split], workers: int) -> None:
    noise = split_of([0] * 12, 24)

    def image(i: int) -> Image.Image:
        time.sleep(0.02)
        return noise.image(i)

    split = Split(noise.targets, image, noise.name)
    loader = StreamLoader(split, PREPROCESS, 6, crew=Crew(workers), share=Share(0, 2))
    assert loader.decoded == (0, 0.0)
    list(loader.epoch())
    images, seconds = loader.decoded
    assert images >= 6
    assert 1 < images / seconds < 50 * max(1, workers) * 2  # of two processes; some are slower
