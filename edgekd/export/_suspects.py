"""What usually went wrong when an exported file disagrees: preprocessing, nine times out of ten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgekd.data import Pixels
from edgekd.export._parity import Logits, snr_db
from edgekd.preprocess import RGB, Preprocess

__all__ = ["Network", "diagnose", "normalised"]

Images = NDArray[np.float32]
"""(B, 3, H, W) as a network takes them."""
Network = Callable[[Images], Logits]

FITS_DB = 40.0
"""From here on a suspect explains the file: what is left is rounding, not another mistake."""

NORMALISATIONS: dict[str, tuple[RGB, RGB]] = {
    "the mean and std of ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "a mean and std of 0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "no mean and std": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "pixels that were not divided by 255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}


def normalised(pixels: Pixels, preprocess: Preprocess) -> Images:
    """Pixels (B, H, W, 3) as the network was trained on them, (B, 3, H, W).

    Written as the definition has it, not with ``scale`` and ``shift``: it is what those must equal.
    """
    mean, std = (np.array(values, np.float32) for values in (preprocess.mean, preprocess.std))
    images = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def diagnose(found: Logits, network: Network, pixels: Pixels, preprocess: Preprocess) -> str:
    """Name the mistake under which the network itself gives the file's logits.

    Args:
        found: the file's logits, (N, K).
        network: the network the file should equal.
        pixels: the images, (N, H, W, 3).
        preprocess: what the network expects.

    Returns:
        A clause, or nothing if no suspect fits.
    """
    if not np.isfinite(found).all():
        return ""
    scores = {
        name: snr_db(network(images), found) for name, images in _suspects(pixels, preprocess)
    }
    best = max(scores, key=scores.__getitem__)
    if scores[best] < FITS_DB:
        return ""
    return f"it behaves like the network with {best} ({scores[best]:.0f} dB)"


def _suspects(pixels: Pixels, preprocess: Preprocess) -> Iterator[tuple[str, Images]]:
    """Each suspect's name and the images it would have shown the network."""
    layouts = {
        "": pixels,
        "red and blue swapped": np.ascontiguousarray(pixels[..., ::-1]),
        "height and width swapped": np.ascontiguousarray(pixels.swapaxes(1, 2)),
    }
    for layout, seen in layouts.items():
        if seen.shape != pixels.shape:
            continue  # a network of one size cannot have been shown those
        if layout:
            yield layout, normalised(seen, preprocess)
        for name, (mean, std) in NORMALISATIONS.items():
            other = replace(preprocess, mean=mean, std=std)
            yield " and ".join(filter(None, [name, layout])), normalised(seen, other)
