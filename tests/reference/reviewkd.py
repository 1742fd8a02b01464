"""Knowledge review, Chen et al. 2021, in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CASES: list[dict[str, Any]] = [{}, {"mid": 3}]


def convolved(maps: Any, kernel: Any) -> Any:
    """With zeros around the map, so that its size stays."""
    b, _, h, w = maps.shape
    side = kernel.shape[2]
    padded = np.pad(maps, [(0, 0), (0, 0), (side // 2,) * 2, (side // 2,) * 2])
    out = np.zeros((b, len(kernel), h, w))
    for i in range(h):
        for j in range(w):
            window = padded[:, :, i : i + side, j : j + side]
            for k in range(len(kernel)):
                out[:, k, i, j] = (window * kernel[k]).sum((1, 2, 3))
    return out


def adapted(maps: Any, learned: Any, name: str) -> Any:
    """A convolution, then each channel normalised over the batch and its places."""
    out = convolved(maps, learned[f"{name}.0.weight"])
    for k in range(out.shape[1]):
        out[:, k] = (out[:, k] - out[:, k].mean()) / np.sqrt(out[:, k].var() + 1e-5)
        out[:, k] *= learned[f"{name}.1.weight"][k]
        out[:, k] += learned[f"{name}.1.bias"][k]
    return out


def nearest(maps: Any, height: int, width: int) -> Any:
    """Place (i, j) takes the one it falls on."""
    _, _, h, w = maps.shape
    out = np.empty((*maps.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            out[:, :, i, j] = maps[:, :, i * h // height, j * w // width]
    return out


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


def hierarchical(s: Any, t: Any) -> float:
    """The context loss: the maps themselves, then averaged to 4x4, 2x2 and 1x1 places."""
    sides = [side for side in (4, 2, 1) if side < min(s.shape[2:])]
    losses = [((s - t) ** 2).mean()]
    losses += [((averaged(s, n, n) - averaged(t, n, n)) ** 2).mean() for n in sides]
    weights = [0.5**level for level in range(len(losses))]
    return float(np.dot(weights, losses) / sum(weights))


def loss(student: Any, teacher: Any, batch: Any, learned: Any, mid: int = 0) -> float:
    """From the embedding up to the finest map, each fused with what lies below it."""
    count = min(len(student.stages), len(teacher.preacts))  # matched from the coarse end
    shown = [student.embedding[:, :, None, None], *student.stages[-count:][::-1]]
    targets = [teacher.embedding[:, :, None, None], *teacher.preacts[-count:][::-1]]
    total, fused = 0.0, None
    for level, (a, t) in enumerate(zip(shown, targets, strict=True)):
        x = adapted(a, learned, f"fusions.{level}.narrow")
        assert x.shape[1] == (mid or min(512, student.embedding.shape[1]))
        if fused is not None:
            below = nearest(fused, *x.shape[2:])
            both = np.concatenate([x, below], 1)
            z = convolved(both, learned[f"fusions.{level}.attend.weight"])
            z += learned[f"fusions.{level}.attend.bias"][:, None, None]
            p, q = 1 / (1 + np.exp(-z[:, 0])), 1 / (1 + np.exp(-z[:, 1]))
            x = p[:, None] * x + q[:, None] * below
        fused = nearest(x, *t.shape[2:])
        total += hierarchical(adapted(fused, learned, f"fusions.{level}.widen"), t)
    return total
