"""Run networks and files on the same pixels: logits out, whatever the file takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgekd.data import Pixels
from edgekd.export._exporters import reason_of
from edgekd.export._parity import Logits
from edgekd.export._suspects import Network, normalised
from edgekd.preprocess import Preprocess

__all__ = ["answers", "as_function", "chunks_of", "open_session", "run_file", "run_session"]

BATCH = 32


def answers(network: nn.Module, preprocess: Preprocess, pixels: Pixels) -> Logits:
    """Logits (N, K) of a network in evaluation mode, on the CPU, for pixels (N, H, W, 3)."""
    run = as_function(network)
    found = [run(normalised(pixels[c], preprocess)) for c in chunks_of(len(pixels), BATCH)]
    return np.concatenate(found)


def as_function(network: nn.Module) -> Network:
    """A network as a function of arrays."""

    def run(images: Any) -> Logits:
        with torch.inference_mode():
            logits: Logits = network(torch.from_numpy(images)).numpy()
        return logits

    return run


def run_file(
    file: Path, preprocess: Preprocess, pixels: Pixels, chunks: Iterable[slice] | None = None
) -> Logits:
    """Logits (N, K) of an ONNX file in ONNX Runtime.

    The file's input decides what it is fed: uint8 takes the pixels as they are, float32 takes them
    normalised.

    Args:
        file: with one input and one output, and a dynamic batch.
        preprocess: what the network expects.
        pixels: (N, H, W, 3) uint8.
        chunks: which images go together; batches of 32 unless told.

    Raises:
        ValueError: it refuses a batch, or answers to another number of images.
    """
    chosen = chunks_of(len(pixels), BATCH) if chunks is None else chunks
    return run_session(open_session(file), preprocess, pixels, chosen)


def run_session(
    session: Any, preprocess: Preprocess, pixels: Pixels, chunks: Iterable[slice]
) -> Logits:
    """Do what :func:`run_file` does with a session that is open already."""
    (entry,) = session.get_inputs()
    if isinstance(entry.shape[0], int):
        raise ValueError(f"its batch is frozen at {entry.shape[0]}")
    baked = entry.type == "tensor(uint8)"
    outputs = []
    for chunk in chunks:
        feed = pixels[chunk] if baked else normalised(pixels[chunk], preprocess)
        try:
            (logits,) = session.run(None, {entry.name: feed})
        except Exception as error:  # ONNX Runtime's errors have no class of their own
            raise ValueError(f"it does not run at batch {len(feed)}: {reason_of(error)}") from error
        if len(logits) != len(feed):
            raise ValueError(f"it gives {len(logits)} answers to a batch of {len(feed)}")
        outputs.append(logits)
    return np.concatenate(outputs)


def open_session(file: Path) -> Any:
    """An ONNX Runtime session on the CPU that prints nothing."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(2, torch.get_num_threads())
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # its errors are raised as well; they need not be printed too
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def chunks_of(count: int, size: int, start: int = 0) -> Iterator[slice]:
    """Slices of at most ``size`` that cover ``start`` to ``count``."""
    for first in range(start, count, size):
        yield slice(first, min(first + size, count))
