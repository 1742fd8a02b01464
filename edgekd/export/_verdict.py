"""Verdict: what a file loses against the float network, on labelled images, and if it may."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from edgekd import intervals
from edgekd.errors import UsageError
from edgekd.export._parity import Logits, snr_db

__all__ = ["LEAST_DB", "Verdict", "check_enough", "confidence_of", "judge"]

LEAST_DB = 3.0
"""Below it the error is as large as the signal; whatever the accuracy, it is another network."""


@dataclass(frozen=True)
class Verdict:
    """The answers of a file beside those of the float network, image by image."""

    n: int
    top1: float
    reference: float
    """Top-1 of the float network."""
    delta: float
    """``top1 - reference``."""
    delta_interval: tuple[float, float]
    """Paired."""
    top1_agreement: float
    snr_db: float
    max_drop: float
    attempt: int = 1
    """The how manieth file this is that the same images judge."""
    confidence: float = 0.95
    """Of the interval."""
    reasons: tuple[str, ...] = ()
    """Why it is refused; empty if it is not."""

    @property
    def passed(self) -> bool:
        return not self.reasons

    @property
    def words(self) -> str:
        """``-0.3 points of top-1 [-0.9, +0.2] over 2,000 images``."""
        low, high = self.delta_interval
        sure = "" if self.attempt == 1 else f", {100 * self.confidence:.4g} %"
        return (
            f"{100 * self.delta:+.1f} points of top-1 [{100 * low:+.1f}, {100 * high:+.1f}{sure}] "
            f"over {self.n:,} images"
        )

    def to_dict(self) -> dict[str, Any]:
        """The ``verdict`` section of a manifest."""
        plain = asdict(self) | {"passed": self.passed}
        return plain | {key: list(plain[key]) for key in ("delta_interval", "reasons")}


def judge(
    expected: Logits, found: Logits, targets: Sequence[int], max_drop: float, attempt: int = 1
) -> Verdict:
    """Compare a file's answers with the float network's.

    The bad end of the paired interval must not be worse than ``max_drop``. Who may try again and
    again on the same images passes some time by luck, so each attempt may err half as often as the
    one before: all together then accept a file that loses too much with a probability of at most
    0.025 (1 + 1/2 + 1/4 + ...) = 5 % (Bonferroni's inequality).

    Args:
        expected: logits of the float network, (N, K).
        found: those of the file, on the same images.
        targets: the true classes, (N,).
        max_drop: accuracy that may be lost, as a share. Images on which both agree do not widen the
            interval.
        attempt: how many files these images have judged by then, with this one.
    """
    finite, confidence = bool(np.isfinite(found).all()), confidence_of(attempt)
    classes, reference = found.argmax(axis=1), expected.argmax(axis=1)
    right, before = classes == np.asarray(targets), reference == np.asarray(targets)
    gained, lost = int((right & ~before).sum()), int((before & ~right).sum())
    drop = intervals.paired_difference(gained, lost, len(right), confidence)
    db = snr_db(expected, found) if finite else -np.inf
    made = Verdict(
        n=len(right),
        top1=float(right.mean()),
        reference=float(before.mean()),
        delta=drop.value,
        delta_interval=(drop.lo, drop.hi),
        top1_agreement=float((classes == reference).mean()),
        snr_db=float(np.clip(db, -200, 200)),
        max_drop=max_drop,
        attempt=attempt,
        confidence=confidence,
    )
    return replace(made, reasons=tuple(_reasons(made, finite)))


def confidence_of(attempt: int) -> float:
    """Of the interval that the k-th file is judged with."""
    return 1 - 0.1 / float(2**attempt)


def check_enough(images: int, max_drop: float) -> None:
    """Refuse to judge on so few images that even equal answers would allow a greater loss.

    Raises:
        UsageError: saying how many it takes.
    """
    if _least(images) >= -max_drop:
        return
    odds = -_least(images) / (1 + _least(images))  # in proportion to 1 / n
    needed = math.ceil(images * odds * (1 - max_drop) / max_drop)
    raise UsageError(
        f"{images} validation images cannot show a loss of at most {_points(max_drop)} of top-1, "
        f"even with every answer the same: it takes {needed}. Give --data with more of them, or "
        f"allow more: --max-drop {_percent_above(-_least(images))} (export.max_drop of a recipe)."
    )


def _least(images: int, confidence: float = 0.95) -> float:
    """The bad end where nothing changed at all."""
    return intervals.paired_difference(0, 0, images, confidence).lo


def _percent_above(share: float) -> str:
    return f"{math.ceil(1000 * share) / 10:g}%"


def _points(share: float) -> str:
    return f"{100 * share:g} point{'' if share == 0.01 else 's'}"


def _reasons(made: Verdict, finite: bool) -> list[str]:
    if not finite:
        return ["its logits are not finite"]
    low, allowed = made.delta_interval[0], _points(made.max_drop)
    found = []
    if made.snr_db < LEAST_DB:
        found.append(f"its logits are {made.snr_db:.1f} dB above their error, which is no likeness")
    if made.delta < -made.max_drop:
        found.append(f"it loses too much: {made.words}; allowed: {allowed}")
    elif low < -made.max_drop:
        found.append(f"it may lose more than {allowed}: {made.words}")
    return found
