"""Opening: the images of a training, shared out among the processes there are."""

from __future__ import annotations

from edgekd.flow.launch import one_first
from edgekd.loading import Loaders, Share, Splits, loaders, open_splits
from edgekd.preprocess import Preprocess
from edgekd.recipe import Data, Train
from edgekd.trainer.collective import device, meet
from edgekd.watching import Watch


def opened(data: Data) -> Splits:
    """The images; what has to be downloaded for them is downloaded once on a machine."""
    with one_first():
        return open_splits(data)


def load(splits: Splits, preprocess: Preprocess, data: Data, train: Train, watch: Watch) -> Loaders:
    """This process's part of every batch, on the device that it trains on.

    Args:
        splits: the images.
        preprocess: what the student expects.
        data: how to augment, and how much memory to take.
        train: batch size, over all processes, and seed.
        watch: told how many are decoded.
    """
    total = len(splits.train) + len(splits.validation) + len(splits.test)
    done, here = 0, meet()

    def tick() -> None:
        nonlocal done
        done += 1
        if done % 500 == 0 or done == total:
            watch.progress("decode", done, total, "images")

    share = Share(here.rank, here.size, here.neighbours)
    return loaders(splits, preprocess, data, train, share, tick, device())
