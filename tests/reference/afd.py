"""Attention-based feature distillation, Ji et al. 2021, in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CASES: list[dict[str, Any]] = [{}, {"dim": 7}]


def averaged(grid: Any, height: int, width: int) -> Any:
    """Cut (H, W) into height x width boxes that cover it, and take each one's mean."""
    h, w = grid.shape
    out = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            rows = slice(i * h // height, math.ceil((i + 1) * h / height))
            columns = slice(j * w // width, math.ceil((j + 1) * w / width))
            out[i, j] = grid[rows, columns].mean()
    return out


def value(map_: Any, height: int, width: int) -> Any:
    """Q(F): the mean of the squared channels at the teacher's size, of length 1."""
    q = averaged((map_**2).mean(0), height, width).reshape(-1)
    return q / np.sqrt((q**2).sum())


def normed(rows: Any, weight: Any, bias: Any) -> Any:
    """Batch norm of each column of ``rows``, with the statistics of these rows."""
    return (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5) * weight + bias


def heads(maps: Any, learned: Any, side: str) -> Any:
    """LinBN of each pooled map, (n, B, dim)."""
    vectors = []
    for i, map_ in enumerate(maps):
        matrix = learned[f"similarity.{side}.linear.{i}.weight"]
        own = slice(i * len(matrix), (i + 1) * len(matrix))
        weight = learned[f"similarity.{side}.norm.weight"][own]
        bias = learned[f"similarity.{side}.norm.bias"][own]
        vectors.append(normed(map_.mean((2, 3)) @ matrix.T, weight, bias))
    return np.array(vectors)


def attention(student: Any, teacher: Any, learned: Any) -> Any:
    """alpha[b, t, :], a softmax over the student's maps."""
    keys = np.maximum(heads(student, learned, "student"), 0)
    queries = heads(teacher, learned, "teacher")
    ns, count, dim = keys.shape
    rows = np.array([keys[s, b] for b in range(count) for s in range(ns)])
    bilinear = normed(
        rows @ learned["similarity.mixed.weight"].T, learned["similarity.norm.weight"], 0.0
    )
    out = np.empty((count, len(queries), ns))
    for b, t in np.ndindex(out.shape[:2]):
        place = learned["similarity.teacher_place"][t]
        for s in range(ns):
            u = bilinear[b * ns + s][t * dim : (t + 1) * dim]
            position = place @ learned["similarity.student_place"][s]
            out[b, t, s] = math.exp((u @ queries[t, b] + position) / math.sqrt(dim))
        out[b, t] /= out[b, t].sum()
    return out


def loss(student: Any, teacher: Any, batch: Any, learned: Any, dim: int = 128) -> float:
    """The mean over images of the sum over t and s of alpha times the mean squared difference."""
    s_maps = [block for blocks in student.blocks for block in blocks]
    t_maps = [block for blocks in teacher.blocks for block in blocks]
    alpha = attention(s_maps, t_maps, learned)
    total = 0.0
    for b, t, s in np.ndindex(alpha.shape):
        size = t_maps[t].shape[2:]
        difference = value(s_maps[s][b], *size) - value(t_maps[t][b], *size)
        total += alpha[b, t, s] * (difference**2).mean() / len(alpha)
    return float(total)
