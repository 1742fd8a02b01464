"""Distillation of softened logits, Hinton et al. 2015, section 2, in plain loops.

With the standardised logits of Sun et al. 2024 and the asymmetric temperatures of Li et al. 2022.
"""

from __future__ import annotations

import math
from typing import Any

CASES: list[dict[str, Any]] = [
    {},
    {"temperature": 1.0},
    {"temperature": 2.5},
    {"standardise": True, "temperature": 2.0},
    {"label_temperature": 4.0, "temperature": 2.0},
    {"label_temperature": 1.5},
]


def softened(z: Any, temperatures: list[float]) -> list[float]:
    """exp(z_i / T_i) / sum_j exp(z_j / T_j), equation 1 where all T are one."""
    powers = [math.exp(value / T) for value, T in zip(z, temperatures, strict=True)]
    return [power / sum(powers) for power in powers]


def standard(z: Any) -> list[float]:
    """(z - mean) / (std + 1e-7), with the unbiased deviation over the classes; 0 below 1e-4."""
    mean = sum(z) / len(z)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in z) / (len(z) - 1))
    if deviation < 1e-4:
        return [0.0 for _ in z]
    return [(value - mean) / (deviation + 1e-7) for value in z]


def loss(
    student: Any,
    teacher: Any,
    batch: Any,
    learned: Any,
    temperature: float = 4.0,
    standardise: bool = False,
    label_temperature: float = 0.0,
) -> float:
    """T^2 times the divergence of the student's p from the teacher's q, mean over the batch."""
    total = 0.0
    for s, t, label in zip(student.logits, teacher.logits, batch.target, strict=True):
        of_student, of_teacher = [temperature] * len(s), [temperature] * len(t)
        if standardise:
            s, t = standard(s), standard(t)
        if label_temperature:
            of_teacher[label] = label_temperature
            t = [value - sum(t) / len(t) for value in t]
        p, q = softened(s, of_student), softened(t, of_teacher)
        total += sum(qk * (math.log(qk) - math.log(pk)) for pk, qk in zip(p, q, strict=True))
    return temperature**2 * total / len(batch.target)
