"""Similarity-preserving distillation, Tung & Mori 2019, in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CASES: list[dict[str, Any]] = [{}, {"stage": 0}, {"stage": 1}]


def similarity(maps: Any) -> Any:
    """G_ij = <q_i, q_j>, each row then divided by its length."""
    images = range(len(maps))
    g = np.array([[float((maps[i] * maps[j]).sum()) for j in images] for i in images])
    for i in images:
        g[i] /= math.sqrt(sum(value**2 for value in g[i]))
    return g


def loss(student: Any, teacher: Any, batch: Any, learned: Any, stage: int = -1) -> float:
    """B times the paper's (1 / B^2) || G_t - G_s ||_F^2."""
    count = min(len(student.stages), len(teacher.stages))  # matched from the coarse end
    s, t = student.stages[-count:][stage], teacher.stages[-count:][stage]
    g_s, g_t, B = similarity(s), similarity(t), len(batch.target)
    paper = 0.0
    for i in range(B):
        for j in range(B):
            paper += (g_t[i][j] - g_s[i][j]) ** 2 / B**2
    return B * paper
