"""Factor transfer, Kim, Park & Kwak 2018, with the norms of the authors' code, in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CASES: list[dict[str, Any]] = [
    {},
    {"scale": "paper"},
    {"rate": 0.3, "reconstruction": "l2"},
    {"rate": 1.0, "study_share": 0.5},
]


def averaged(grid: Any, height: int, width: int) -> Any:
    """Cut (C, H, W) into height x width boxes that cover it, and take each one's mean."""
    _, h, w = grid.shape
    out = np.empty((len(grid), height, width))
    for i in range(height):
        for j in range(width):
            rows = slice(i * h // height, math.ceil((i + 1) * h / height))
            columns = slice(j * w // width, math.ceil((j + 1) * w / width))
            out[:, i, j] = grid[:, rows, columns].mean((1, 2))
    return out


def convolved(grid: Any, weight: Any, bias: Any) -> Any:
    """3x3 convolution of (C, H, W), with a border of zeros."""
    _, h, w = grid.shape
    padded = np.pad(grid, ((0, 0), (1, 1), (1, 1)))
    out = np.empty((len(weight), h, w))
    for k in range(len(weight)):
        for i in range(h):
            for j in range(w):
                out[k, i, j] = bias[k] + (weight[k] * padded[:, i : i + 3, j : j + 3]).sum()
    return out


def factor(learned: Any, prefix: str, grid: Any) -> Any:
    """Three convolutions, each followed by a rectifier that lets a tenth through below 0."""
    for layer in (0, 2, 4):
        grid = convolved(
            grid, learned[f"{prefix}.{layer}.weight"], learned[f"{prefix}.{layer}.bias"]
        )
        grid = np.where(grid > 0, grid, 0.1 * grid)
    return grid


def loss(
    student: Any,
    teacher: Any,
    batch: Any,
    learned: Any,
    rate: float = 0.5,
    scale: str = "dimfree",
    reconstruction: str = "l1",  # how the paraphraser learned what it is given here
    study_share: float = 5 / 164,
) -> float:
    """Mean of | F_S / ||F_S|| - F_T / ||F_T|| | over the batch and the elements."""
    total = []
    for a_s, a_t in zip(student.stages[-1], teacher.stages[-1], strict=True):
        f_s = factor(learned, "translator", a_s)
        f_t = factor(learned, "of_teacher.encoder", a_t / learned["of_teacher.scale"])
        assert len(f_s) == len(f_t) == int(rate * len(a_t))
        height, width = (min(a, b) for a, b in zip(f_s.shape[1:], f_t.shape[1:], strict=True))
        f_s, f_t = averaged(f_s, height, width), averaged(f_t, height, width)
        difference = f_s / np.sqrt((f_s**2).sum()) - f_t / np.sqrt((f_t**2).sum())
        strength = 500 * math.sqrt(difference.size / (32 * 8 * 8)) if scale == "dimfree" else 1
        total.append(strength * np.abs(difference).mean())
    return float(np.mean(total))
