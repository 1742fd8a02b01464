"""Correlations of probabilities, Huang et al. 2022, section 3, in plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np

CASES: list[dict[str, Any]] = [
    {},
    {"beta": 0.0, "temperature": 1.0},
    {"gamma": 0.0},
    {"beta": 2.0, "gamma": 0.5, "temperature": 2.5},
]


def pearson(a: Any, b: Any) -> Any:
    """Covariance over both deviations; 0 of what hardly varies."""
    a, b = a - a.mean(), b - b.mean()
    lengths = np.sqrt((a**2).sum()), np.sqrt((b**2).sum())
    return (a * b).sum() / (lengths[0] * lengths[1]) if min(lengths) >= 1e-4 else 0.0


def loss(
    student: Any,
    teacher: Any,
    batch: Any,
    learned: Any,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 4.0,
) -> float:
    """T^2 times beta of the rows' and gamma of the columns' mean distance from 1."""
    p, q = (np.exp(network.logits / temperature) for network in (student, teacher))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    rows = np.mean([1 - pearson(p[i], q[i]) for i in range(len(p))])
    columns = np.mean([1 - pearson(p[:, k], q[:, k]) for k in range(p.shape[1])])
    return float(temperature**2 * (beta * rows + gamma * columns))
