"""Inheritance and exploration, Huang et al. 2021, with the authors' coders, in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CASES: list[dict[str, Any]] = [
    {},
    {"split": "random", "ratio": 0.3, "study_share": 1.0},
    {"scale": "paper", "inherit": 50.0, "explore": 20.0, "reconstruction": "l2"},
    {"factor_dim": 3, "explore": 0},
    {"guard": "shared", "inherit": 0.0},
    {"guard": "shared_frozen"},
    {"flavour": "at", "explore": 0.5},
    {"flavour": "at", "scale": "paper", "split": "random", "ratio": 0.7, "inherit": 1000.0},
]
BREAKS = {"sign": "what explores is rewarded for its distance to the teacher, without a floor at 0"}


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


def to_smaller(maps: Any, others: Any) -> Any:
    """Each (C, H, W) of a batch at the smaller size of two."""
    height, width = (min(a, b) for a, b in zip(maps.shape[2:], others.shape[2:], strict=True))
    return np.stack([averaged(grid, height, width) for grid in maps])


def convolved(maps: Any, weight: Any) -> Any:
    """3x3 convolution of (B, C, H, W), with a border of zeros and without a bias."""
    size, _, h, w = maps.shape
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.empty((size, len(weight), h, w))
    for b in range(size):
        for k in range(len(weight)):
            for i in range(h):
                for j in range(w):
                    out[b, k, i, j] = (weight[k] * padded[b, :, i : i + 3, j : j + 3]).sum()
    return out


def factor(learned: Any, prefix: str, maps: Any) -> Any:
    """Three times: convolution, normalisation by this batch's statistics, leaky rectifier."""
    for layer in (0, 3, 6):
        maps = convolved(maps, learned[f"{prefix}.{layer}.weight"])
        for k in range(maps.shape[1]):
            channel = maps[:, k]
            normal = (channel - channel.mean()) / np.sqrt(channel.var() + 1e-5)
            gain, shift = (
                learned[f"{prefix}.{layer + 1}.{part}"][k] for part in ("weight", "bias")
            )
            maps[:, k] = gain * normal + shift
        maps = np.where(maps > 0, maps, 0.1 * maps)
    return maps


def unit(vector: Any) -> Any:
    return vector.reshape(-1) / np.sqrt((vector**2).sum())


def between_factors(x: Any, y: Any, scale: str) -> float:
    """D: mean of | X / ||X|| - Y / ||Y|| | over the batch and the elements."""
    mean = float(np.mean([np.abs(unit(a) - unit(b)).mean() for a, b in zip(x, y, strict=True)]))
    return mean if scale == "paper" else 50 * math.sqrt(x[0].size / (32 * 8 * 8)) * mean


def between_attention(x: Any, y: Any, scale: str) -> float:
    """Squared distance of the maps of mean_c f^2, each at length 1."""
    total = []
    for a, b in zip(x, y, strict=True):
        q, r = (a**2).mean(0, keepdims=True), (b**2).mean(0, keepdims=True)
        size = min(q.shape[1], r.shape[1]), min(q.shape[2], r.shape[2])
        squares = (unit(averaged(q, *size)) - unit(averaged(r, *size))) ** 2
        total.append(squares.mean() if scale == "paper" else squares.sum())
    return float(np.mean(total))


def halves(learned: Any, stage: int, maps: Any, ratio: float) -> list[Any]:
    """The channels that inherit and those that explore."""
    order = learned[f"parts.{stage}.order"]
    assert sorted(order) == list(range(maps.shape[1]))
    kept = int(maps.shape[1] * ratio)
    return [maps[:, order[:kept]], maps[:, order[kept:]]]


def loss(
    student: Any,
    teacher: Any,
    batch: Any,
    learned: Any,
    flavour: str = "ft",
    ratio: float = 0.5,
    split: str = "natural",
    inherit: float = 1.0,
    explore: float = 1.0,
    scale: str = "dimfree",
    factor_dim: int = 0,
    reconstruction: str = "l1",  # how the teacher's encoder learned what it is given here
    guard: str = "own",
    study_share: float = 30 / 160,
) -> float:
    """Of the part that inherits, minus that of the part that explores, each with its weight."""
    count = min(len(student.stages), len(teacher.stages))  # matched from the coarse end
    if flavour == "at":
        total = 0.0
        for i, s, t in zip(
            range(count), student.stages[-count:], teacher.stages[-count:], strict=True
        ):
            near, far = (between_attention(half, t, scale) for half in halves(learned, i, s, ratio))
            total += inherit * near - explore * far
        return total
    s, t = student.stages[-1], teacher.stages[-1]
    divided = t / learned["of_teacher.scale"]
    wanted = factor(learned, "of_teacher.encoder", to_smaller(divided, s))
    assert wanted.shape[1] == (factor_dim or s.shape[1] // 2)
    inheriting, exploring = halves(learned, 0, to_smaller(s, t), ratio)
    near = between_factors(factor(learned, "inheriting", inheriting), wanted, scale)
    encoder = "exploring" if guard == "own" else "inheriting"
    far = between_factors(factor(learned, encoder, exploring), wanted, scale)
    return inherit * near - explore * far
