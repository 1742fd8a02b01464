"""Attention between the maps of two networks: energy maps, their distances, their similarity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.features import Features, spatial

Size = tuple[int, int]
MOST = 32
"""How many maps of one network take part; beyond, every second one does."""


def block_maps(features: Features) -> list[Tensor]:
    """The block outputs of all stages with places to tell apart, fine to coarse, at most ``MOST``.

    Raises:
        ValueError: there is none.
    """
    maps = spatial(block for blocks in features.blocks for block in blocks)
    while len(maps) > MOST:
        maps = maps[::-1][::2][::-1]  # from the coarse end, so that the last map stays
    return maps


def energies(maps: Sequence[Tensor]) -> list[Tensor]:
    """The mean of the squared channels, (B, n, H, W) for each run of n maps of one size."""
    runs = groupby(maps, key=lambda map: map.shape[2:])
    return [torch.stack([map.square().mean(1) for map in run], 1) for _, run in runs]


def size_of(energy: Tensor) -> Size:
    return energy.shape[2], energy.shape[3]


def pooled(energy: Tensor, size: Size) -> Tensor:
    return energy if size_of(energy) == size else F.adaptive_avg_pool2d(energy, size)


def unit(energy: Tensor, size: Size) -> Tensor:
    """Energy maps at one size as vectors of length 1, (B, n, H*W); an empty map stays empty."""
    return F.normalize(pooled(energy, size).flatten(2), dim=2)


def distances(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    grid: Callable[[Size, Size], Size],
    mean: bool = False,
) -> Tensor:
    """Squared distance of every pair of normalised energy maps, (B, Ns, Nt).

    Each map is resized and normalised once for each size it is compared at, and the pairs of two
    runs are one product of matrices: nothing of size Ns x Nt x H*W is ever made.

    Args:
        student: its energies.
        teacher: its energies.
        grid: the size at which a student's and a teacher's map are compared.
        mean: average over the places instead of adding them up.
    """
    sizes = [[grid(size_of(s), size_of(t)) for t in teacher] for s in student]
    a = [{size: unit(s, size) for size in set(row)} for s, row in zip(student, sizes, strict=True)]
    columns = zip(*sizes, strict=True)
    b = [{size: unit(t, size) for size in set(c)} for t, c in zip(teacher, columns, strict=True)]
    rows = []
    for s, row in zip(a, sizes, strict=True):
        found = [_squared(s[size], t[size]) for t, size in zip(b, row, strict=True)]
        if mean:
            found = [d / (h * w) for d, (h, w) in zip(found, row, strict=True)]
        rows.append(torch.cat(found, 2))
    return torch.cat(rows, 1)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """|a_s - b_t|^2, (B, Ns, Nt). Not 2 - 2ab: the length of an empty map is 0."""
    lengths = a.square().sum(2).unsqueeze(2) + b.square().sum(2).unsqueeze(1)
    return (lengths - 2 * a @ b.transpose(1, 2)).clamp_min(0)


class Heads(nn.Module):
    """A vector for each map: pooled, then linear with batch norm, of its own for each map.

    The linear layers have no bias: the norm would take it out. The norms of all maps are one.
    """

    def __init__(self, maps: Sequence[Tensor], dim: int) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(map.shape[1], dim, bias=False) for map in maps)
        self.norm = nn.BatchNorm1d(len(maps) * dim)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        vectors = [linear(map.mean((2, 3))) for linear, map in zip(self.linear, maps, strict=True)]
        normed: Tensor = self.norm(torch.cat(vectors, 1))
        return normed.view(len(normed), len(maps), -1)  # (B, n, dim)


class Similarity(nn.Module):
    """How much each of the student's maps has to do with each of the teacher's, learned.

        l_st = ( <u_s, v_t> + <place_s, place_t> ) / sqrt(dim),
        u_s = mixed(ReLU(head_s(S_s))),   v_t = head_t(T_t)

    Args:
        student: its maps.
        teacher: its maps.
        dim: how long the vectors are.
        bilinear: give each of the teacher's maps a u_s of its own.
    """

    def __init__(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], dim: int, bilinear: bool
    ) -> None:
        super().__init__()
        self.bilinear = bilinear
        self.student = Heads(student, dim)
        self.teacher = Heads(teacher, dim)
        width = dim * len(teacher) if bilinear else dim
        self.mixed = nn.Linear(dim, width, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.student_place = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(student), dim)))
        self.teacher_place = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(teacher), dim)))

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        s, v = self.student(student).relu(), self.teacher(teacher)  # (B, Ns, dim), (B, Nt, dim)
        u: Tensor = self.norm(self.mixed(s.flatten(0, 1)))
        if self.bilinear:
            u = u.view(*s.shape[:2], *v.shape[1:])  # (B, Ns, Nt, dim)
            products = torch.einsum("bstd,btd->bst", u, v)
        else:
            products = u.view_as(s) @ v.transpose(1, 2)
        places = self.student_place @ self.teacher_place.T
        return (products + places) / math.sqrt(v.shape[2])  # (B, Ns, Nt)
