"""Augmentation against torchvision's on PIL images, per core: crop, mirror, normalise (goal G7).

python tools/bench/aug.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
from itertools import count

import numpy as np
import torch
from pairing import interleaved, machine, ratio
from PIL import Image
from torchvision import transforms

from edgekd.data import Images
from edgekd.loading.memory import Shift, TrainLoader
from edgekd.preprocess import Preprocess

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


def main() -> None:
    """Print microseconds an image and the ratio, at two batch sizes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    for batch in (64, 256):
        _compare(batch, 2 if asked.quick else 7, 2 if asked.quick else 20)


def _compare(batch: int, rounds: int, batches: int) -> None:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (8192, 32, 32, 3), dtype=np.uint8)
    images = Images(pixels, np.zeros(8192, np.int64))
    loader = TrainLoader(images, Preprocess((32, 32), MEAN, STD), batch, Shift(4, True), 0)
    epochs = count()
    usual = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )

    def ours() -> None:
        for number, _ in enumerate(loader.epoch(next(epochs)), 1):
            if number == batches:
                break

    def torchvision() -> None:
        for number in range(batches):
            rows = pixels[number * batch : (number + 1) * batch]
            torch.stack([usual(Image.fromarray(row)) for row in rows])

    taken = interleaved({"PIL": torchvision, "edgekd": ours, "null": torchvision}, rounds)
    per_image = {k: 1e6 * statistics.median(v) / batches / batch for k, v in taken.items()}
    rate = 1e6 / per_image["edgekd"]
    print(f"batch {batch}: torchvision on PIL {per_image['PIL']:.1f} us an image")
    print(f"  edgekd {per_image['edgekd']:.2f} us, {rate:,.0f} images/s a core, shuffling included")
    print(f"  edgekd / PIL {ratio(taken, 'edgekd', 'PIL')}, null {ratio(taken, 'null', 'PIL')}")


if __name__ == "__main__":
    main()
