"""Run an exported file in ONNX Runtime beside its network, on the same real images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgekd.data import Images, Pixels
from edgekd.errors import DataError
from edgekd.export._exporters import reason_of
from edgekd.export._parity import FP32_DB, Logits, Parity, compare, failed
from edgekd.export._suspects import Network, diagnose, normalised
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
    reference = _callable(network)
    chunks = list(_chunks(len(pixels)))
    sizes = tuple(sorted({chunk.stop - chunk.start for chunk in chunks}))
    expected = np.concatenate([reference(normalised(pixels[c], preprocess)) for c in chunks])
    try:
        found = _run(file, pixels, preprocess, chunks)
    except Exception as error:  # ONNX Runtime's errors have no class of their own
        return failed(distinct, f"ONNX Runtime refuses it: {reason_of(error)}", sizes)
    if isinstance(found, str):
        return failed(distinct, found, sizes)
    parity = replace(compare(expected, found, sizes, least_db), images=distinct)
    if parity.passed or expected.shape != found.shape:
        return parity
    cause = diagnose(found[:SUSPECTED], reference, pixels[:SUSPECTED], preprocess)
    return replace(parity, reasons=(*parity.reasons, cause)) if cause else parity


def _run(file: Path, pixels: Pixels, preprocess: Preprocess, chunks: list[slice]) -> Logits | str:
    """The file's logits, or why there are none."""
    session = _session(file)
    (entry,) = session.get_inputs()
    if isinstance(entry.shape[0], int):
        return f"its batch is frozen at {entry.shape[0]}"
    baked = entry.type == "tensor(uint8)"
    outputs = []
    for chunk in chunks:
        feed = pixels[chunk] if baked else normalised(pixels[chunk], preprocess)
        try:
            (logits,) = session.run(None, {entry.name: feed})
        except Exception as error:  # see prove
            return f"it does not run at batch {len(feed)}: {reason_of(error)}"
        if len(logits) != len(feed):
            return f"it gives {len(logits)} answers to a batch of {len(feed)}"
        outputs.append(logits)
    return np.concatenate(outputs)


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # its errors are raised as well; they need not be printed too
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _callable(network: nn.Module) -> Network:
    def run(images: Any) -> Logits:
        with torch.inference_mode():
            logits: Logits = network(torch.from_numpy(images)).numpy()
        return logits

    return run


def _chunks(count: int) -> Iterator[slice]:
    start = 0
    for size in [1] * SINGLES + [7] * SEVENS:
        yield slice(start, start + size)
        start += size
    for first in range(start, count, FULL):
        yield slice(first, min(first + FULL, count))
