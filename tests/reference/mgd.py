"""Multi-granularity distillation, Shao & Chen 2021, the codes of the authors, in plain loops."""

from __future__ import annotations

import math
from typing import Any

CASES: list[dict[str, Any]] = [
    {},
    {"stable": False},
    {"dims": [3], "temperatures": [1.0]},
    {"dims": [2, 7, 5], "temperatures": [0.5, 3, 20.0]},
    {"study_share": 1.0},
]


def linear(weight: Any, bias: Any, x: Any) -> list[float]:
    return [
        b + sum(w * value for w, value in zip(row, x, strict=True))
        for row, b in zip(weight, bias, strict=True)
    ]


def code(learned: Any, prefix: str, f: Any) -> list[float]:
    """Two layers with a ReLU between them."""
    hidden = linear(learned[f"{prefix}.0.weight"], learned[f"{prefix}.0.bias"], f)
    rectified = [max(value, 0.0) for value in hidden]
    return linear(learned[f"{prefix}.2.weight"], learned[f"{prefix}.2.bias"], rectified)


def softened(a: Any, temperature: float) -> list[float]:
    partition = sum(math.exp(value / temperature) for value in a)
    return [math.exp(value / temperature) / partition for value in a]


def loss(
    student: Any,
    teacher: Any,
    batch: Any,
    learned: Any,
    dims: Any = (64, 256),
    temperatures: Any = (2.0, 8.0),
    stable: bool = True,  # changes what other terms see, and not this loss
    study_share: float = 0.25,  # how long the teacher's encoders studied before
) -> float:
    """T_k^2 times the divergence of the student's code from the teacher's, summed over k."""
    total = 0.0
    for k, T in enumerate(temperatures):
        for f_s, f_t in zip(student.embedding, teacher.embedding, strict=True):
            a_s = code(learned, f"encoders.{k}", f_s)
            a_t = code(learned, f"of_teacher.encoders.{k}", f_t)
            assert len(a_s) == len(a_t) == dims[k]
            p, q = softened(a_s, T), softened(a_t, T)
            total += T**2 * sum(
                qd * (math.log(qd) - math.log(pd)) for pd, qd in zip(p, q, strict=True)
            )
    return total / len(batch.target)
