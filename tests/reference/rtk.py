"""Representative teacher keys, the reconstruction of edgekd/methods/rtk.py, in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CASES: list[dict[str, Any]] = [
    {},
    {"k": 1, "dim": 7},
    {"k": 3, "scope": "batch", "balance": 0.1},
    {"match": "prototype", "bilinear": True},
    {"sim": "map", "balance": 0.5},
    {"sim": "map", "match": "prototype", "scope": "batch"},
    {"k": 1, "warmup": 1.0},
]


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


def unit(map_: Any, size: Any) -> Any:
    """Q(F): the mean of the squared channels, averaged down to ``size``, of length 1."""
    q = averaged((map_**2).mean(0), *size).reshape(-1)
    return q / np.sqrt((q**2).sum())


def normed(rows: Any, weight: Any, bias: Any) -> Any:
    """Batch norm of each column of ``rows``, with the statistics of these rows."""
    variance = rows.var(0)
    return (rows - rows.mean(0)) / np.sqrt(variance + 1e-5) * weight + bias


def heads(maps: Any, learned: Any, side: str) -> Any:
    """The vector of each map, (n, B, dim)."""
    vectors = []
    for i, map_ in enumerate(maps):
        matrix = learned[f"similarity.{side}.linear.{i}.weight"]
        own = slice(i * len(matrix), (i + 1) * len(matrix))
        weight = learned[f"similarity.{side}.norm.weight"][own]
        bias = learned[f"similarity.{side}.norm.bias"][own]
        vectors.append(normed(map_.mean((2, 3)) @ matrix.T, weight, bias))
    return np.array(vectors)


def similarities(student: Any, teacher: Any, learned: Any, bilinear: bool) -> Any:
    """l[b, s, t] = ( <q, k> + <place, place> ) / sqrt(dim)."""
    hidden = np.maximum(heads(student, learned, "student"), 0)  # (Ns, B, dim)
    keys = heads(teacher, learned, "teacher")  # (Nt, B, dim)
    ns, count, dim = hidden.shape
    rows = np.array([hidden[s, b] for b in range(count) for s in range(ns)])
    mixed = normed(
        rows @ learned["similarity.mixed.weight"].T,
        learned["similarity.norm.weight"],
        learned["similarity.norm.bias"],
    )
    out = np.empty((count, ns, len(keys)))
    for b in range(count):
        for s in range(ns):
            for t in range(len(keys)):
                own = slice(t * dim, (t + 1) * dim) if bilinear else slice(None)
                product = mixed[b * ns + s][own] @ keys[t, b]
                places = (
                    learned["similarity.student_place"][s],
                    learned["similarity.teacher_place"][t],
                )
                out[b, s, t] = (product + places[0] @ places[1]) / math.sqrt(dim)
    return out


def weights(row: Any, kept: Any) -> Any:
    """A softmax over the entries ``kept``, 0 elsewhere."""
    out = np.zeros(len(row))
    out[kept] = np.exp(row[kept]) / np.exp(row[kept]).sum()
    return out


def attention(likeness: Any, k: int, scope: str) -> Any:
    """Weights on the ``k`` keys that are most similar, for a sample or for the batch."""
    out = np.zeros_like(likeness)
    for b, rows in enumerate(likeness):
        for s, row in enumerate(rows):
            ranked = row if scope == "sample" else likeness[:, s].mean(0)
            out[b, s] = weights(row, np.argsort(-ranked)[:k])
    return out


def distances(student: Any, teacher: Any, size: Any) -> Any:
    """D[b, s, t] = || Q(S_s) - Q(T_t) ||^2, at ``size`` or at the smaller of the two."""
    out = np.empty((len(student[0]), len(student), len(teacher)))
    for b, i, j in np.ndindex(out.shape):
        s, t = student[i][b], teacher[j][b]
        at = size or [min(s.shape[axis], t.shape[axis]) for axis in (1, 2)]
        out[b, i, j] = ((unit(s, at) - unit(t, at)) ** 2).sum()
    return out


def to_prototypes(a: Any, student: Any, teacher: Any, size: Any) -> Any:
    """|| Q(S_s) - sum_t a_st Q(T_t) ||^2, (B, Ns)."""
    out = np.empty(a.shape[:2])
    for b, i in np.ndindex(out.shape):
        mean = sum(a[b, i, j] * unit(t[b], size) for j, t in enumerate(teacher))
        out[b, i] = ((unit(student[i][b], size) - mean) ** 2).sum()
    return out


def loss(
    student: Any,
    teacher: Any,
    batch: Any,
    learned: Any,
    dim: int = 128,
    k: int = 0,
    scope: str = "sample",
    sim: str = "learned",
    match: str = "pairwise",
    balance: float = 0.0,
    bilinear: bool = False,
    warmup: float = 0.1,
) -> float:
    """The mean over images and student maps of sum_t a_st D_st."""
    s_maps = [block for blocks in student.blocks for block in blocks]
    t_maps = [block for blocks in teacher.blocks for block in blocks]
    nt = len(t_maps)
    smallest = [min(map_.shape[axis] for map_ in s_maps + t_maps) for axis in (2, 3)]
    D = distances(s_maps, t_maps, smallest if match == "prototype" else None)
    k = k or math.ceil(nt / 3)
    if sim == "learned":
        likeness = similarities(s_maps, t_maps, learned, bilinear)
        if batch.progress < warmup:
            k = max(k, math.ceil(nt - (nt - k) * batch.progress / warmup))
    else:
        likeness = (1 - D / 2) / 0.1
    a = attention(likeness, k, scope)
    matched = (a * D).sum(2)
    if match == "prototype":
        matched = to_prototypes(a, s_maps, t_maps, smallest)
    used = [m for m in a.mean((0, 1)) if m > 0]
    return float(matched.mean() + balance * sum(m * math.log(nt * m) for m in used))
