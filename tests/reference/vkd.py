"""VkD, Miles et al. 2024: W orthonormal by another decomposition, and d(W z, N(t)), in numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CASES: list[dict[str, Any]] = [
    {},
    {"projection": "exp_thin"},
    {"projection": "newton_schulz"},
    {"normalise": "batch", "normalise_student": "batch"},
    {"normalise": "whiten"},
    {"normalise": "none", "distance": "mse"},
    {"where": "embedding", "affine": True},
    {"where": "dense"},
    {"where": "dense", "normalise": "layer", "normalise_student": "none"},
    {"where": "dense", "normalise": "whiten", "affine": True, "distance": "mse"},
]


def gram_schmidt(matrix: Any) -> Any:
    """One column after the other, made orthogonal to those before it and of length 1."""
    Q = matrix.copy()
    for j in range(Q.shape[1]):
        for _ in range(2):  # twice is enough
            Q[:, j] -= Q[:, :j] @ (Q[:, :j].T @ Q[:, j])
        Q[:, j] /= np.sqrt((Q[:, j] ** 2).sum())
    return Q


def nearest(matrix: Any) -> Any:
    """U V^T of the singular value decomposition U S V^T."""
    U, _, V = np.linalg.svd(matrix, full_matrices=False)
    return U @ V


def turned(start: Any, inside: Any, outside: Any) -> Any:
    """exp(A) Q with the whole n x n skew-symmetric A = Q B Q^T + Z Q^T - Q Z^T."""
    lower = np.tril(inside, -1)
    Z = outside - start @ (start.T @ outside)
    A = start @ (lower - lower.T) @ start.T + Z @ start.T - start @ Z.T
    angles, vectors = np.linalg.eigh(1j * A)  # A = V diag(-i angle) V^H
    rotation = (vectors * np.exp(-1j * angles)) @ vectors.conj().T
    return nearest(rotation.real @ start)


def weight(learned: Any, projection: str, inputs: int) -> Any:
    """W, (outputs, inputs)."""
    frame = {key.rpartition(".")[2]: value for key, value in learned.items() if "frame" in key}
    if projection == "exp_thin":
        W = turned(frame["start"], frame["inside"], frame["outside"])
    else:
        W = {"cholqr": gram_schmidt, "newton_schulz": nearest}[projection](frame["free"])
    return W if W.shape[1] == inputs else W.T


def normalised(rows: Any, how: str) -> Any:
    """Each row (layer) or each column (batch) to mean 0 and variance 1; or covariance I."""
    if how == "layer":
        centred = rows - rows.mean(1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    if how == "none":
        return rows
    centred = rows - rows.mean(0)
    standard = centred / np.sqrt((centred**2).sum(0) / (len(rows) - 1) + 1e-6)
    if how == "batch":
        return standard
    covariance = np.zeros((rows.shape[1], rows.shape[1]))
    for row in standard:
        covariance += np.outer(row, row) / (len(rows) - 1)
    factor = np.linalg.cholesky(0.999 * covariance + 0.001 * np.eye(len(covariance)))
    return standard @ np.linalg.inv(factor).T


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


def vectors(features: Any, other: Any, where: str) -> Any:
    """The rows that are compared, (N, C)."""
    if where == "embedding":
        return features.embedding
    maps = features.stages[-1]
    if where == "pooled":
        return np.array([[channel.mean() for channel in a] for a in maps])
    size = [min(a, b) for a, b in zip(maps.shape[2:], other.stages[-1].shape[2:], strict=True)]
    small = [averaged(a, *size) for a in maps]
    return np.array([a[:, i, j] for a in small for i in range(size[0]) for j in range(size[1])])


def distance(error: float, kind: str) -> float:
    if kind == "mse":
        return error**2
    return 0.5 * error**2 if abs(error) < 1 else abs(error) - 0.5


def loss(
    student: Any,
    teacher: Any,
    batch: Any,
    learned: Any,
    where: str = "pooled",
    normalise: str = "auto",
    normalise_student: str = "auto",
    projection: str = "cholqr",
    affine: bool = False,
    **options: str,
) -> float:
    """Mean of d(W z - N(t)) over the vectors and the channels."""
    usual = ("batch", "batch") if where == "dense" else ("none", "layer")
    how_z = usual[0] if normalise_student == "auto" else normalise_student
    how_t = usual[1] if normalise == "auto" else normalise
    z, t = vectors(student, teacher, where), vectors(teacher, student, where)
    W = weight(learned, projection, z.shape[1])
    projected = normalised(np.array([W @ row for row in z]), how_z)
    if affine:
        projected = projected * learned["scale"] + learned["bias"]
    errors = (projected - normalised(t, how_t)).reshape(-1)
    return float(np.mean([distance(e, options.get("distance", "smooth_l1")) for e in errors]))
