"""Run an exported file in ONNX Runtime beside its network, on the same real images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from edgekd.data import Images, Pixels
from edgekd.errors import DataError
from edgekd.export._exporters import reason_of
from edgekd.export._parity import FP32_DB, Parity, compare, failed
from edgekd.export._running import as_function, chunks_of, open_session, run_session
from edgekd.export._suspects import diagnose, normalised
from edgekd.preprocess import Preprocess

__all__ = ["prove", "sample"]

SINGLES, SEVENS, FULL = 4, 3, 32
"""Four images alone, three batches of 7, the rest in batches of 32: an exporter that froze its
example's batch into the graph fails at one of them, or answers differently."""
LEAST = SINGLES + 7 * SEVENS + FULL
SUSPECTED = 64  # images are enough to tell one mistake from another


def sample(images: Images, count: int, preprocess: Preprocess) -> Pixels:
    """Up to ``count`` images, evenly spread, as data sets are often sorted by class.

    Raises:
        DataError: no images, or not of the size the network takes.
    """
    if not len(images) or count < 1:
        raise DataError(
            f"parity was asked for on {min(count, len(images))} images; expected at least 1. "
            "Give images that it has a class for, with --data."
        )
    height, width = preprocess.size
    if images.pixels.shape[1:] != (height, width, 3) or images.pixels.dtype != np.uint8:
        raise DataError(
            f"the images are {images.pixels.shape[1:]} {images.pixels.dtype}; the network takes "
            f"({height}, {width}, 3) uint8. Decode them with the network's own preprocessing."
        )
    chosen = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(np.int64)
    return images.pixels[chosen]


def prove(
    file: Path,
    network: nn.Module,
    preprocess: Preprocess,
    pixels: Pixels,
    least_db: float = FP32_DB,
) -> Parity:
    """Compare a file with its network at batch 1, 7 and 32.

    The file's input decides what it is fed: uint8 takes the pixels as they are, float32 takes them
    normalised. The network is always fed the normalised pixels.

    Args:
        file: an ONNX file with one input and one output.
        network: in evaluation mode, on the CPU, float32.
        preprocess: what the network expects.
        pixels: (N, H, W, 3).
        least_db: signal to noise below which the file is refused.
    """
    distinct = len(pixels)
    if distinct < LEAST:  # so that each batch size comes up
        pixels = np.resize(pixels, (LEAST, *pixels.shape[1:]))
    reference = as_function(network)
    chunks = list(_chunks(len(pixels)))
    sizes = tuple(sorted({chunk.stop - chunk.start for chunk in chunks}))
    expected = np.concatenate([reference(normalised(pixels[c], preprocess)) for c in chunks])
    try:
        session = open_session(file)
    except Exception as error:  # ONNX Runtime's errors have no class of their own
        return failed(distinct, f"ONNX Runtime refuses it: {reason_of(error)}", sizes)
    try:
        found = run_session(session, preprocess, pixels, chunks)
    except ValueError as error:
        return failed(distinct, str(error), sizes)
    parity = replace(compare(expected, found, sizes, least_db), images=distinct)
    if parity.passed or expected.shape != found.shape:
        return parity
    cause = diagnose(found[:SUSPECTED], reference, pixels[:SUSPECTED], preprocess)
    return replace(parity, reasons=(*parity.reasons, cause)) if cause else parity


def _chunks(count: int) -> Iterator[slice]:
    start = 0
    for size in [1] * SINGLES + [7] * SEVENS:
        yield slice(start, start + size)
        start += size
    yield from chunks_of(count, FULL, start)
