"""Contrastive representation distillation, Tian et al. 2020, in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

CASES: list[dict[str, Any]] = [
    {},
    {"negatives": 5},
    {"dim": 16, "temperature": 0.5},
    {"momentum": 0.0},
]
BREAKS = {
    "order": "each image draws its negatives at random",
    "mean": "each image draws its negatives at random",
}


def unit(vector: Any) -> Any:
    return vector / np.sqrt((vector**2).sum())


def drawn(index: Any, classes: Any, negatives: int) -> list[list[int]]:
    """For each image, images of other classes."""
    seen = list(classes)
    count = min(negatives, len(seen) - max(seen.count(c) for c in seen))
    torch.manual_seed(1)
    numbers = torch.randint(2**62, (len(index), count)).tolist()
    chosen = []
    for i, row in zip(index, numbers, strict=True):
        others = sorted((c, j) for j, c in enumerate(seen) if c != seen[i])
        chosen.append([others[number % len(others)][1] for number in row])
    return chosen


def loss(
    student: Any,
    teacher: Any,
    batch: Any,
    learned: Any,
    negatives: int = 16384,
    temperature: float = 0.07,
    **options: Any,
) -> float:
    """-log h of each image and -log(1 - h) of its negatives, in both directions."""
    chosen = drawn(batch.index, learned["classes"], negatives)
    total = 0.0
    for shown, own, other in (
        (student.embedding, "student_side", "teacher_side"),
        (teacher.embedding, "teacher_side", "student_side"),
    ):
        weight, bias = learned[f"{own}.adapter.weight"], learned[f"{own}.adapter.bias"]
        memory, log_z = learned[f"{other}.memory"], learned[f"{other}.log_z"]
        e = []
        for embedding, i, others in zip(shown, batch.index, chosen, strict=True):
            v = unit(weight @ embedding + bias)
            e.append([math.exp(v @ memory[j] / temperature) for j in [i, *others]])
        Z = len(memory) * np.mean(e) if np.isinf(log_z) else math.exp(log_z)
        ratio = len(chosen[0]) / len(memory)
        for row in e:
            h = [value / Z / (value / Z + ratio) for value in row]
            total -= math.log(h[0]) + sum(math.log(1 - value) for value in h[1:])
    return total / len(batch.target)
