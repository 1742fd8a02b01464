"""Variational information distillation, Ahn et al. 2019: a Gaussian's -log q, in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CASES: list[dict[str, Any]] = [{}, {"variance": 0.1}]
BREAKS = {"sign": "the density of a value that is predicted well is above 1"}


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


def mixed(maps: Any, weight: Any) -> Any:
    """A 1x1 convolution: each place's channels times a matrix."""
    return np.array(
        [[sum(row[c] * a[c] for c in range(len(a))) for row in weight[:, :, 0, 0]] for a in maps]
    )


def activated(maps: Any, scale: Any, shift: Any) -> Any:
    """Each channel over the batch to mean 0 and variance 1, scaled, shifted; negatives to 0."""
    out = np.empty_like(maps)
    for c in range(maps.shape[1]):
        channel = maps[:, c]
        spread = math.sqrt(((channel - channel.mean()) ** 2).mean() + 1e-5)
        out[:, c] = np.maximum(0, (channel - channel.mean()) / spread * scale[c] + shift[c])
    return out


def loss(student: Any, teacher: Any, batch: Any, learned: Any, variance: float = 5.0) -> float:
    """-log q(A_t | A_s) less log(2 pi) / 2, mean over the elements, sum over the stages."""
    count = min(len(student.stages), len(teacher.stages))  # matched from the coarse end
    total = 0.0
    pairs = zip(student.stages[-count:], teacher.stages[-count:], strict=True)
    for i, (s, t) in enumerate(pairs):
        size = min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3])
        mean, target = (np.array([averaged(a, *size) for a in maps]) for maps in (s, t))
        for conv, norm in ((0, 1), (3, 4)):
            mean = mixed(mean, learned[f"stages.{i}.mean.{conv}.weight"])
            scale, shift = (learned[f"stages.{i}.mean.{norm}.{k}"] for k in ("weight", "bias"))
            mean = activated(mean, scale, shift)
        mean = mixed(mean, learned[f"stages.{i}.mean.6.weight"])
        densities = []
        for c, rho in enumerate(learned[f"stages.{i}.rho"]):
            v = math.log(1 + math.exp(rho)) + 1e-5
            error = target[:, c] - mean[:, c] - learned[f"stages.{i}.mean.6.bias"][c]
            density = np.exp(-(error**2) / (2 * v)) / math.sqrt(2 * math.pi * v)
            densities.append(-np.log(density) - math.log(2 * math.pi) / 2)
        total += float(np.mean(densities))
    return total
