"""The accuracy loop: what a model says about decoded images, on the device, in its runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List, Optional

import numpy as np

from edgekd.agent.failures import AgentError
from edgekd.agent.feeds import ImageInput, Normalise, to_input
from edgekd.agent.runtimes import Session

BATCH = 32  # for models that take any


@dataclass(frozen=True)
class Answers:
    """What a model said."""

    predictions: List[int]
    """The class with the highest logit, for each image in order."""
    top5_hits: Optional[int]
    """Images whose class is among the five highest; None without targets or five classes."""


def read_array(path: Path) -> Any:
    """A ``.npy`` file, mapped into memory rather than read, because devices have little."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise AgentError(
            "input", f"{path.name} cannot be read as a .npy array: {error}. Write it with np.save."
        ) from error


def answer(
    session: Session,
    images: Any,
    targets: Any,
    target: ImageInput,
    normalise: Normalise,
    on_progress: Optional[Callable[[int], None]] = None,
) -> Answers:
    """Run a model over all images.

    Args:
        session: the model.
        images: uint8, (N, H, W, 3).
        targets: the classes, (N,); None if they are not known.
        target: how the model takes images.
        normalise: applied when the model takes float.
        on_progress: called with the number of images done.
    """
    size = target.batch or BATCH
    predictions: List[int] = []
    hits, classes = 0, 0
    for start in range(0, len(images), size):
        batch = np.asarray(images[start : start + size])
        logits = logits_of(session, _filled(batch, target.batch), target, normalise)[: len(batch)]
        classes = logits.shape[1]
        predictions += [int(value) for value in logits.argmax(axis=1)]
        if targets is not None and classes >= 5:
            five = np.argpartition(-logits, 4, axis=1)[:, :5]  # (B, 5)
            truth = np.asarray(targets[start : start + size])[:, None]
            hits += int((five == truth).any(axis=1).sum())
        if on_progress is not None:
            on_progress(len(predictions))
    return Answers(predictions, hits if targets is not None and classes >= 5 else None)


def _filled(batch: Any, size: Optional[int]) -> Any:
    """The last batch of a model with a fixed batch size, filled up with its own images."""
    if size is None or len(batch) == size:
        return batch
    return np.resize(batch, (size, *batch.shape[1:]))


def logits_of(session: Session, images: Any, target: ImageInput, normalise: Normalise) -> Any:
    """A classifier's answers to a batch, float32 (B, K); images as they come, uint8 (B, H, W, 3).

    Raises:
        AgentError: the output is not logits, or not numbers.
    """
    outputs = session.run({target.name: to_input(images, target, normalise)})
    name, logits = next(iter(outputs.items()))
    known = isinstance(logits, np.ndarray) and np.issubdtype(logits.dtype, np.number)
    if not known or logits.ndim != 2 or len(logits) != len(images) or not logits.size:
        found = f"{logits.dtype} {logits.shape}" if hasattr(logits, "dtype") else "no tensor"
        raise AgentError(
            "output",
            f"the model's first output {name[:60]} is {found}; expected logits ({len(images)}, "
            "classes). Accuracy is measured for classifiers only.",
        )
    logits = logits.astype(np.float32)
    if not np.isfinite(logits).all():
        raise AgentError(
            "output",
            f"the model's output {name} holds NaN or infinity, so its answers mean nothing. "
            "Export it in a wider precision (fp32), or quantise it again.",
        )
    return logits
