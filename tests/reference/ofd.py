"""The overhaul of feature distillation, Heo et al. 2019, in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CASES: list[dict[str, Any]] = [{}, {"relu": False}]


def averaged(maps: Any, height: int, width: int) -> Any:
    """Cut (B, C, H, W) into height x width boxes that cover it, and take each one's mean."""
    *front, h, w = maps.shape
    out = np.empty((*front, height, width))
    for i in range(height):
        for j in range(width):
            rows = slice(i * h // height, math.ceil((i + 1) * h / height))
            columns = slice(j * w // width, math.ceil((j + 1) * w / width))
            out[:, :, i, j] = maps[:, :, rows, columns].mean((2, 3))
    return out


def adapted(maps: Any, learned: Any, stage: int) -> Any:
    """A 1x1 convolution, then each channel normalised over the batch and its places."""
    kernel = learned[f"adapters.{stage}.0.weight"][:, :, 0, 0]
    out = np.empty((len(maps), len(kernel), *maps.shape[2:]))
    for k in range(len(kernel)):
        mixed = sum(kernel[k, c] * maps[:, c] for c in range(maps.shape[1]))
        out[:, k] = (mixed - mixed.mean()) / np.sqrt(mixed.var() + 1e-5)
        out[:, k] *= learned[f"adapters.{stage}.1.weight"][k]
        out[:, k] += learned[f"adapters.{stage}.1.bias"][k]
    return out


def with_margin(maps: Any, total: Any, share: Any) -> Any:
    """max(a, m), where m is what a channel says below 0 on average, and 0 if it never does."""
    out = np.empty_like(maps)
    for c in range(maps.shape[1]):
        out[:, c] = np.maximum(maps[:, c], total[c] / share[c] if share[c] else 0.0)
    return out


def loss(student: Any, teacher: Any, batch: Any, learned: Any, relu: bool = True) -> float:
    """The sum over the stages of the mean partial distance."""
    targets = list(teacher.preacts)
    if relu:
        start = 0
        for stage, maps in enumerate(targets):
            own = slice(start, start := start + maps.shape[1])
            counted = [learned[f"of_teacher.{name}"][own] for name in ("total", "share")]
            targets[stage] = with_margin(maps, *counted)
    count = min(len(student.preacts), len(targets))  # matched from the coarse end
    total = 0.0
    for stage in range(count):
        s, t = student.preacts[stage - count], targets[stage - count]
        size = [min(a, b) for a, b in zip(s.shape[2:], t.shape[2:], strict=True)]
        s, t = averaged(adapted(s, learned, stage), *size), averaged(t, *size)
        silent = (s <= t) & (t <= 0)
        total += np.where(silent & relu, 0.0, (s - t) ** 2).mean()
    return total
