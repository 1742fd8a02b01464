"""Cross-entropy with smoothed labels, Szegedy et al. 2016, section 7, in plain loops."""

from __future__ import annotations

import math
from typing import Any

CASES: list[dict[str, Any]] = [{}, {"smoothing": 0.1}]


def loss(student: Any, teacher: Any, batch: Any, learned: Any, smoothing: float = 0.0) -> float:
    """-sum_k q_k log p_k with q_k = (1 - e) [k = label] + e / K, mean over the batch."""
    total = 0.0
    for z, label in zip(student.logits, batch.target, strict=True):
        partition = sum(math.exp(value) for value in z)
        for k in range(len(z)):
            q = (1 - smoothing) * (k == label) + smoothing / len(z)
            total -= q * math.log(math.exp(z[k]) / partition)
    return total / len(batch.target)
