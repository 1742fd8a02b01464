"""Knowledge representing, the reconstruction of edgekd/methods/kr.py, in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CASES: list[dict[str, Any]] = [
    {},
    {"grid": 3, "temperature": 1.0},
    {"channels": 3, "keep": 1.0},
    {"channels": 1, "keep": 0.5, "grid": 7},
    {"dead_zone": 0.5},
    {"aggregate": False, "temperature": 4.0},
]


def box(i: int, parts: int, length: int) -> slice:
    """Part ``i`` of ``length`` entries cut into ``parts`` that cover them."""
    return slice(i * length // parts, math.ceil((i + 1) * length / parts))


def code(map_: Any, channels: int, height: int, width: int) -> Any:
    """c: the energy (C, H, W) in boxes, over its mean."""
    out = np.empty((channels, height, width))
    for k, i, j in np.ndindex(out.shape):
        boxed = (map_**2)[box(k, channels, map_.shape[0])]
        boxed = boxed[:, box(i, height, map_.shape[1]), box(j, width, map_.shape[2])]
        out[k, i, j] = boxed.mean()
    return out.reshape(-1) / (out.mean() + 1e-12)


def standardised(a: Any) -> Any:
    return (a - a.mean()) / np.sqrt(((a - a.mean()) ** 2).mean() + 1e-6)


def divergence(s: Any, t: Any, keep: float, temperature: float) -> float:
    """T^2 KL(p || q) on the entries where the teacher's is largest."""
    support = np.argsort(-t)[: math.ceil(keep * len(t))]
    p, q = (np.exp(z[support] / temperature) for z in (t, s))
    p, q = p / p.sum(), q / q.sum()
    return float(temperature**2 * (p * np.log(p / q)).sum())


def stage(s: Any, t: Any, r: int, channels: int, keep: float, tau: float, whole: bool) -> float:
    """The loss of one stage for one image; ``s`` and ``t`` are lists of maps (C, H, W)."""
    K, h, w = (
        min(most, *(map_.shape[axis] for map_ in [*s, *t]))
        for axis, most in enumerate((channels, r, r))
    )
    a, b = ([code(map_, K, h, w) for map_ in maps] for maps in (s, t))
    if whole:
        means = standardised(np.mean(a, axis=0)), standardised(np.mean(b, axis=0))
        return divergence(*means, keep, tau)
    losses = []
    for i, own in enumerate(a):
        other = b[math.ceil((i + 1) * len(b) / len(a)) - 1]
        losses.append(divergence(standardised(own), standardised(other), keep, tau))
    return float(np.mean(losses))


def loss(
    student: Any,
    teacher: Any,
    batch: Any,
    learned: Any,
    channels: int = 16,
    grid: int = 0,
    temperature: float = 2.0,
    keep: float = 0.25,
    dead_zone: float = 0.0,
    aggregate: bool = True,
) -> float:
    """Mean over images and stages; the dead zone only stops gradients."""
    count = min(len(student.blocks), len(teacher.blocks))  # matched from the coarse end
    pairs = list(zip(student.blocks[-count:], teacher.blocks[-count:], strict=True))
    r = grid or (4 if max(batch.image.shape[2:]) <= 64 else 7)
    losses = [
        stage([m[i] for m in s], [m[i] for m in t], r, channels, keep, temperature, aggregate)
        for s, t in pairs
        for i in range(len(batch.target))
    ]
    return float(np.mean(losses))
