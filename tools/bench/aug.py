"""Augmentation against torchvision's on PIL images, per core: crop, mirror, normalise (goal G7).

Faster is worth nothing if it draws something else. So which offset and which mirroring was drawn is
read back from the pixels of pictures that tell, for both, and their counts are held against equal
chances for all of them (Pearson's chi-square).

    python tools/bench/aug.py
    python tools/bench/aug.py --quick      few draws, to see that it works

Exit code 1: what edgekd draws is not as likely as it should be.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from itertools import count, islice

import numpy as np
import torch
from numpy.typing import NDArray
from pairing import interleaved, machine, on_one_core, ratio
from peers import MEAN, STD, usual
from PIL import Image
from scipy import stats
from torch import Tensor

from edgekd.data import Images, Pixels
from edgekd.loading.memory import Shift, TrainLoader
from edgekd.preprocess import Preprocess

SIDE, REACH = 32, 4
VIEWS = (2 * REACH + 1) ** 2 * 2
LEAST_P = 0.001
"""Equal chances are doubted below; all draws come from a seed, so the verdict stays the same."""

Counts = NDArray[np.int64]


def main() -> int:
    """Print microseconds an image and the ratio at two batch sizes, and both distributions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    on_one_core()
    torch.manual_seed(0)
    print(machine("torchvision", "pillow"))
    for batch in (64, 256):
        _compare(batch, 2 if asked.quick else 7, 2 if asked.quick else 20)
    return _distributions(2048 if asked.quick else 32768)


def _compare(batch: int, rounds: int, batches: int) -> None:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (8192, SIDE, SIDE, 3), dtype=np.uint8)
    loader, epochs, theirs = _loader(pixels, batch), count(), usual(SIDE)

    def ours() -> None:
        for _ in islice(loader.epoch(next(epochs)), batches):
            pass

    def torchvision() -> None:
        for number in range(batches):
            rows = pixels[number * batch : (number + 1) * batch]
            torch.stack([theirs(Image.fromarray(row)) for row in rows])

    taken = interleaved({"PIL": torchvision, "edgekd": ours, "null": torchvision}, rounds)
    per_image = {k: 1e6 * statistics.median(v) / batches / batch for k, v in taken.items()}
    rate = 1e6 / per_image["edgekd"]
    print(f"batch {batch}: torchvision on PIL {per_image['PIL']:.1f} us an image")
    print(f"  edgekd {per_image['edgekd']:.2f} us, {rate:,.0f} images/s a core, shuffling included")
    print(f"  PIL / edgekd {ratio(taken, 'PIL', 'edgekd')}, null {ratio(taken, 'null', 'PIL')}")


def _loader(pixels: Pixels, batch: int) -> TrainLoader:
    images = Images(pixels, np.zeros(len(pixels), np.int64))
    return TrainLoader(
        images, Preprocess((SIDE, SIDE), MEAN, STD), batch, Shift(REACH, True), seed=0
    )


def _distributions(draws: int) -> int:
    """Print how well equal chances explain what was drawn; 1 where they do not for edgekd."""
    telling, theirs = telltale(), usual(SIDE)
    loader, epochs = _loader(np.repeat(telling[None], 1024, 0), 256), draws // 1024
    ours = np.concatenate(
        [views(batch.image) for epoch in range(epochs) for batch in loader.epoch(epoch)]
    )
    picture, part = Image.fromarray(telling), 256
    other = np.concatenate(
        [
            views(torch.stack([theirs(picture) for _ in range(part)]))
            for _ in range(draws // 2 // part)
        ]
    )
    p = {name: chi_square(counted) for name, counted in (("edgekd", ours), ("PIL", other))}
    print(f"{(2 * REACH + 1) ** 2} offsets, mirrored and not: {VIEWS} views, equally likely?")
    for name, counted in (("edgekd", ours), ("PIL", other)):
        statistic, chance = p[name]
        found = len(np.unique(counted))
        print(
            f"  {name:<7} {len(counted):,} draws, {found} views seen, chi-square {statistic:.1f} "
            f"for {VIEWS - 1} degrees of freedom, p = {chance:.3f}"
        )
    return 0 if p["edgekd"][1] >= LEAST_P else 1


def telltale() -> Pixels:
    """A picture (32, 32, 3) whose red says the row of each pixel, and whose green the column."""
    place = np.arange(SIDE, dtype=np.uint8)
    picture = np.full((SIDE, SIDE, 3), 255, np.uint8)
    picture[..., 0], picture[..., 1] = place[:, None], place
    return picture


def views(image: Tensor) -> Counts:
    """Which view of the telling picture each image (B, 3, 32, 32) shows, in [0, 162).

    Raises:
        ValueError: some image shows none of them.
    """
    scale = torch.tensor(STD)[:, None, None] * 255
    shift = torch.tensor(MEAN)[:, None, None] * 255
    pixels = (image.detach() * scale + shift).round().numpy().astype(np.int64)
    middle = SIDE // 2
    red, green = pixels[:, 0, middle, middle], pixels[:, 1, middle, middle]
    mirror = (pixels[:, 1, middle, middle + 1] < green).astype(np.int64)
    down = red - middle + REACH
    # in the mirror the middle column shows the one before the middle
    right = green - middle + mirror + REACH
    reach = 2 * REACH
    if not all(((place >= 0) & (place <= reach)).all() for place in (down, right)):
        raise ValueError(f"an image is moved by more than {REACH} pixels: {down}, {right}")
    found: Counts = (down * (reach + 1) + right) * 2 + mirror
    return found


def chi_square(drawn: Counts) -> tuple[float, float]:
    """Pearson's statistic of views drawn with equal chances, and how often it is as large."""
    counts = np.bincount(drawn, minlength=VIEWS)
    expected = len(drawn) / VIEWS
    statistic = float(((counts - expected) ** 2).sum() / expected)
    return statistic, float(stats.chi2.sf(statistic, VIEWS - 1))


if __name__ == "__main__":
    sys.exit(main())
