"""Parity: how well an exported file agrees with its network, and whether that is good enough.

A bound on the largest difference says little: 1e-3 is nothing beside logits of 400, and a change of
class beside logits of 0.002. So the error is put in relation to the logits (signal to noise), and a
change of class is excused only where the network itself could hardly decide.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FP32_DB", "Logits", "Parity", "compare", "failed", "snr_db"]

Logits = NDArray[np.floating[Any]]
"""(N, K)."""

FP32_DB = 90.0
"""Least signal to noise of a float32 export: an error of 3e-5. Good ones have 115 to 135 dB; with
a wrong mean or swapped channels it is 0 to 30 dB."""
EXCUSED = 4.0
"""A class may change where the margin is at most this many times the usual error. Two logits with
independent errors of that size differ by 1.4 times as much, so 4 is near 2.8 standard deviations.
"""
CAP_DB = 200.0  # equal outputs have no noise at all, and JSON has no infinity


@dataclass(frozen=True)
class Parity:
    """Agreement of an exported file with its network on the same images."""

    images: int
    batches: tuple[int, ...]
    """Batch sizes that were run; no image was run twice."""
    top1_agreement: float
    flips: int
    """Images whose class changed."""
    excused: int
    """Those of them that the network itself could hardly decide."""
    kl: float
    """Mean KL(network || file) of the class probabilities, in nats."""
    cosine: float
    """Mean over the images."""
    snr_db: float
    max_abs: float
    max_relative: float
    """``max_abs`` over the largest logit."""
    reasons: tuple[str, ...] = ()
    """Why it is not good enough; empty if it is."""

    @property
    def passed(self) -> bool:
        return not self.reasons

    def to_dict(self) -> dict[str, Any]:
        """The ``parity`` section of a manifest; numbers that JSON does not have become null."""
        plain = asdict(self) | {"passed": self.passed}
        return {
            key: None
            if isinstance(value, float) and not math.isfinite(value)
            else list(value)
            if isinstance(value, tuple)
            else value
            for key, value in plain.items()
        }


def compare(
    expected: Logits, found: Logits, batches: tuple[int, ...] = (), least_db: float = FP32_DB
) -> Parity:
    """Compare the logits of the network with those of the file, (N, K) both.

    Args:
        expected: the network's.
        found: the file's.
        batches: batch sizes they were computed with, for the record.
        least_db: signal to noise below which the file is refused.
    """
    if expected.shape != found.shape:
        return failed(len(expected), f"its logits are {found.shape}, expected {expected.shape}")
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    for whose, logits in (("the network's", expected), ("its", found)):
        bad = int((~np.isfinite(logits)).any(axis=1).sum())
        if bad:
            return failed(len(expected), f"{whose} logits are not finite on {bad} images")
    error = found - expected
    flipped, excused, flip_reason = _flips(expected, found)
    db = snr_db(expected, found)
    reasons = [flip_reason] if flip_reason else []
    if db < least_db:
        reasons.append(
            f"its logits are only {db:.1f} dB above their error; expected {least_db:g} dB"
        )
    largest = float(np.abs(expected).max())
    return Parity(
        images=len(expected),
        batches=batches,
        top1_agreement=1 - flipped / len(expected),
        flips=flipped,
        excused=excused,
        kl=_kl(expected, found),
        cosine=_cosine(expected, found),
        snr_db=db,
        max_abs=float(np.abs(error).max()),
        max_relative=float(np.abs(error).max() / largest) if largest else math.inf,
        reasons=tuple(reasons),
    )


def failed(images: int, reason: str, batches: tuple[int, ...] = ()) -> Parity:
    """No comparison was possible, for this reason."""
    nan = math.nan
    return Parity(images, batches, 0.0, images, 0, nan, nan, nan, nan, nan, (reason,))


def snr_db(expected: Logits, found: Logits) -> float:
    """Power of the expected logits, without their mean per image, over that of the error, in dB.

    The mean is left out because softmax does not see it: it would flatter the result.
    """
    signal = np.square(expected - expected.mean(axis=1, keepdims=True)).sum(dtype=np.float64)
    noise = np.square(found - expected).sum(dtype=np.float64)
    if noise == 0:
        return CAP_DB
    return float(np.clip(10 * np.log10(signal / noise), -CAP_DB, CAP_DB)) if signal else -CAP_DB


def _flips(expected: Logits, found: Logits) -> tuple[int, int, str]:
    """How many classes changed, how many of those are excused, and why the others are not."""
    flipped = expected.argmax(axis=1) != found.argmax(axis=1)
    two = (
        np.partition(expected, -2, axis=1)[:, -2:] if expected.shape[1] > 1 else expected[:, [0, 0]]
    )
    margin = two[:, 1] - two[:, 0]  # (N,)
    # The usual error is a median over images, so that a few images gone wrong cannot excuse
    # themselves with their own large error. The floor is what rounding alone can do.
    usual = float(np.median(np.sqrt(np.square(found - expected).mean(axis=1))))
    usual = max(usual, float(np.finfo(np.float32).eps * np.abs(expected).max()))
    guilty = flipped & (margin > EXCUSED * usual)
    count = int(guilty.sum())
    if not count:
        return int(flipped.sum()), int(flipped.sum()), ""
    worst = float(margin[guilty].max())
    reason = (
        f"{count} of {len(expected)} images change class where the network is sure: by a margin of "
        f"up to {worst:.3g}, with a usual error of {usual:.2g}"
    )
    return int(flipped.sum()), int(flipped.sum()) - count, reason


def _kl(expected: Logits, found: Logits) -> float:
    p, q = _log_softmax(expected), _log_softmax(found)
    return float(np.maximum((np.exp(p) * (p - q)).sum(axis=1).mean(), 0.0))


def _log_softmax(logits: Logits) -> Logits:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log: Logits = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log


def _cosine(expected: Logits, found: Logits) -> float:
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    products = (expected * found).sum(axis=1)
    both_zero = ~expected.any(axis=1) & ~found.any(axis=1)
    safe = np.where(lengths > 0, lengths, 1.0)
    return float(np.where(both_zero, 1.0, products / safe).mean())
