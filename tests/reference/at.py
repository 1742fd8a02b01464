"""Attention transfer, Zagoruyko & Komodakis 2017, equation 2, in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CASES: list[dict[str, Any]] = [{}, {"power": 1.0}, {"power": 4.0}]


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


def attention(maps: Any, power: float, height: int, width: int) -> Any:
    """Q / ||Q|| with Q = vec(sum_c |A_c|^p)."""
    total = np.zeros(maps.shape[1:])
    for channel in maps:
        total += np.abs(channel) ** power
    q = averaged(total, height, width).reshape(-1)
    return q / np.sqrt((q**2).sum())


def loss(student: Any, teacher: Any, batch: Any, learned: Any, power: float = 2.0) -> float:
    """|| Q_s/||Q_s|| - Q_t/||Q_t|| ||^2, summed over the stages, mean over the batch."""
    count = min(len(student.stages), len(teacher.stages))  # matched from the coarse end
    total = 0.0
    for s, t in zip(student.stages[-count:], teacher.stages[-count:], strict=True):
        for a_s, a_t in zip(s, t, strict=True):
            size = min(a_s.shape[1], a_t.shape[1]), min(a_s.shape[2], a_t.shape[2])
            difference = attention(a_s, power, *size) - attention(a_t, power, *size)
            total += (difference**2).sum() / len(batch.target)
    return total
