"""Decoupled distillation, Zhao et al. 2022, section 3, in plain loops."""

from __future__ import annotations

import math
from typing import Any

CASES: list[dict[str, Any]] = [
    {},
    {"alpha": 0.0, "temperature": 1.0},
    {"beta": 0.0},
    {"alpha": 2.0, "beta": 0.5, "temperature": 2.5},
    {"standardise": True, "temperature": 2.0},
]


def standard(z: Any) -> list[float]:
    """(z - mean) / (std + 1e-7), with the unbiased deviation over the classes; 0 below 1e-4."""
    mean = sum(z) / len(z)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in z) / (len(z) - 1))
    if deviation < 1e-4:
        return [0.0 for _ in z]
    return [(value - mean) / (deviation + 1e-7) for value in z]


def decoupled(z: Any, label: int, temperature: float) -> tuple[list[float], list[float]]:
    """The two: b = (p_label, 1 - p_label), and q_k = p_k / (1 - p_label) of the other classes."""
    powers = [math.exp(value / temperature) for value in z]
    p = [power / sum(powers) for power in powers]
    rest = sum(p[k] for k in range(len(p)) if k != label)
    return [p[label], rest], [p[k] / rest for k in range(len(p)) if k != label]


def divergence(a: list[float], b: list[float]) -> float:
    return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True))


def loss(
    student: Any,
    teacher: Any,
    batch: Any,
    learned: Any,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    standardise: bool = False,
) -> float:
    """T^2 (alpha KL(b_t || b_s) + beta KL(q_t || q_s)), mean over the batch."""
    total = 0.0
    for s, t, label in zip(student.logits, teacher.logits, batch.target, strict=True):
        if standardise:
            s, t = standard(s), standard(t)
        b_s, q_s = decoupled(s, label, temperature)
        b_t, q_t = decoupled(t, label, temperature)
        total += alpha * divergence(b_t, b_s) + beta * divergence(q_t, q_s)
    return temperature**2 * total / len(batch.target)
