"""scikit-learn's 1,797 handwritten digits, 8x8 grey, ten classes; embedded, no download."""

from __future__ import annotations

import numpy as np
from PIL import Image

from edgekd.data import Source, Split
from edgekd.errors import UsageError

__all__ = ["digits"]


def digits(rest: str) -> Source:
    """The whole set as one split; digits must not be mirrored."""
    if rest:
        raise UsageError(f"--data digits takes nothing behind it, found {rest!r}.")
    from sklearn.datasets import load_digits

    table = load_digits()
    grey = np.round(table.images * (255 / 16)).astype(np.uint8)  # (N, 8, 8), from 0..16
    split = Split(
        table.target.astype(np.int64),
        lambda i: Image.fromarray(grey[i]),
        lambda i: f"digit number {i}",
    )
    return Source(tuple(str(name) for name in table.target_names), {"train": split}, "shift")
