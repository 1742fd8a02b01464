"""Distillation of softened logits, Hinton et al. 2015, section 2, in plain loops."""

from __future__ import annotations

import math
from typing import Any

CASES: list[dict[str, Any]] = [{}, {"temperature": 1.0}, {"temperature": 2.5}]


def softened(z: Any, temperature: float) -> list[float]:
    """exp(z_i / T) / sum_j exp(z_j / T), equation 1."""
    partition = sum(math.exp(value / temperature) for value in z)
    return [math.exp(value / temperature) / partition for value in z]


def loss(student: Any, teacher: Any, batch: Any, learned: Any, temperature: float = 4.0) -> float:
    """T^2 times the divergence of the student's p from the teacher's q, mean over the batch."""
    total = 0.0
    for s, t in zip(student.logits, teacher.logits, strict=True):
        p, q = softened(s, temperature), softened(t, temperature)
        total += sum(qk * (math.log(qk) - math.log(pk)) for pk, qk in zip(p, q, strict=True))
    return temperature**2 * total / len(batch.target)
