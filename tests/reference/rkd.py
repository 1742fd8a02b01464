"""Relational distillation, Park et al. 2019, in plain loops."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

CASES: list[dict[str, Any]] = [{}, {"distance": 0.0}, {"angle": 0.0}, {"distance": 1, "angle": 2}]


def huber(a: float, b: float) -> float:
    """Quadratic up to a difference of 1, linear from there."""
    size = abs(a - b)
    return size**2 / 2 if size <= 1 else size - 0.5


def distances(x: Any) -> Any:
    """||x_i - x_j|| over its mean over all pairs that differ."""
    found = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in x] for a in x])
    return found / found[found > 0].mean()


def cosine(x: Any, i: int, j: int, k: int) -> float:
    """Of the angle at j between i and k; 0 where one of them is j."""
    if j in (i, k):
        return 0.0
    one, other = x[i] - x[j], x[k] - x[j]
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def loss(
    student: Any,
    teacher: Any,
    batch: Any,
    learned: Any,
    distance: float = 25.0,
    angle: float = 50.0,
) -> float:
    """Both potentials, each a mean over all pairs or triplets, weighted."""
    s, t, images = student.embedding, teacher.embedding, range(len(batch.target))
    pairs = zip(distances(s).flat, distances(t).flat, strict=True)
    apart = np.mean([huber(a, b) for a, b in pairs])
    triplets = product(images, repeat=3)
    turned = np.mean([huber(cosine(s, *triplet), cosine(t, *triplet)) for triplet in triplets])
    return float(distance * apart + angle * turned)
