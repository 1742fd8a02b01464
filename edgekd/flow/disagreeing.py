"""Disagreements: the images that a model takes for something else, to be looked at."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from edgekd.flow.gallery import Gallery, Shown

MOST = 24
SIDE = 96
"""Pixels of a thumbnail's longer side, at most."""


def disagreements(
    predictions: Sequence[int], reference: Sequence[int] | None, gallery: Gallery, shown: Shown
) -> dict[str, Any]:
    """Images of another class than the reference's or, without one, than the true one.

    Args:
        predictions: the model's classes.
        reference: those of the float network, on the same images.
        gallery: names of images and classes.
        shown: the images as the model took them.

    Returns:
        Their number, and up to 24 of them, evenly spread, as a record has them.
    """
    test = shown.read()
    truth = [int(target) for target in test.targets]
    against = truth if reference is None else reference
    other = [i for i, (p, a) in enumerate(zip(predictions, against, strict=True)) if p != a]
    count = min(MOST, len(other))
    chosen = [other[rank * len(other) // count] for rank in range(count)]
    labels = gallery.labels
    return {
        "n": len(other),
        "shown": [
            {
                "index": index,
                "name": gallery.name(index),
                "truth": labels[truth[index]],
                "reference": None if reference is None else _label(labels, reference[index]),
                "found": _label(labels, predictions[index]),
                "png": _thumbnail(test.pixels[index]),
            }
            for index in chosen
        ],
    }


def _label(labels: Sequence[str], number: int) -> str:
    """A network may tell more classes than the images have."""
    return labels[number] if number < len(labels) else f"class {number}"


def _thumbnail(pixels: Any) -> str:
    """A PNG in base64, as JSON holds it."""
    import numpy as np
    from PIL import Image

    image, made = Image.fromarray(np.asarray(pixels)), BytesIO()
    image.thumbnail((SIDE, SIDE))
    image.save(made, "PNG")
    return base64.b64encode(made.getvalue()).decode("ascii")
