"""Features: what a network showed for one batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Features:
    """What a network showed for one batch; what nobody asked for is empty."""

    logits: Tensor
    """(B, K)."""
    embedding: Tensor | None = None
    """(B, D): pooled, before the classifier."""
    stages: tuple[Tensor, ...] = ()
    """(B, C_i, H_i, W_i) each: one map a resolution, fine to coarse."""
    preacts: tuple[Tensor, ...] = ()
    """The same maps before their last activation; the maps themselves where there is none."""
    blocks: tuple[tuple[Tensor, ...], ...] = ()
    """The block outputs of each stage, (B, C_i, H_i, W_i) each; the last is the stage's map."""

    def float(self) -> Features:
        """The same in float32, so that losses never run in half precision."""
        shown = [self.logits, self.embedding, *self.stages, *self.preacts, *chain(*self.blocks)]
        if all(tensor is None or tensor.dtype == torch.float32 for tensor in shown):
            return self
        return self.mapped(Tensor.float)

    def detached(self) -> Features:
        """The same without a way back to the network that showed them."""
        return self.mapped(Tensor.detach)

    def only(self, needs: Collection[str]) -> Features:
        """The same without what was not asked for; the logits always are."""
        return Features(
            self.logits,
            self.embedding if "embedding" in needs else None,
            self.stages if "stages" in needs else (),
            self.preacts if "preacts" in needs else (),
            self.blocks if "blocks" in needs else (),
        )

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Features:
        """The same with each tensor changed."""
        return Features(
            change(self.logits),
            None if self.embedding is None else change(self.embedding),
            tuple(map(change, self.stages)),
            tuple(map(change, self.preacts)),
            tuple(tuple(map(change, blocks)) for blocks in self.blocks),
        )


LOGITS = frozenset({"logits"})
DEPTHS = ("logits", "embedding", "stages", "preacts", "blocks")


def pair_stages(student: Features, teacher: Features) -> list[tuple[Tensor, Tensor]]:
    """Maps of the two networks, stage by stage, matched from the coarse end; fine to coarse.

    Raises:
        ValueError: one of them shows no maps.
    """
    return pair_maps(student.stages, teacher.stages)


def pair_maps(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The same of any two sequences of maps."""
    count = min(len(student), len(teacher))
    if not count:
        raise ValueError("expected feature maps of both networks, and one of them shows none")
    return list(zip(student[-count:], teacher[-count:], strict=True))


def spatial(maps: Iterable[Tensor]) -> list[Tensor]:
    """Those maps (B, C, H, W) that have places to tell apart: two or more each way.

    Raises:
        ValueError: there is none.
    """
    every = list(maps)
    found = [map for map in every if min(map.shape[2:]) > 1]
    if not found:
        sizes = ", ".join(f"{map.shape[2]}x{map.shape[3]}" for map in every) or "none"
        raise ValueError(
            f"expected feature maps of at least 2x2 places, got {sizes}; "
            "give larger images (data.size) or take a method that looks at logits"
        )
    return found


def spatial_pairs(student: Features, teacher: Features) -> list[tuple[Tensor, Tensor]]:
    """Those pairs of stages whose maps both have places to tell apart.

    Raises:
        ValueError: there is none.
    """
    pairs = pair_stages(student, teacher)
    found = [pair for pair in pairs if all(min(map.shape[2:]) > 1 for map in pair)]
    if not found:  # the finest pair has one that is too small, and so have all the others
        spatial([min(pairs[0], key=lambda map: map.shape[2] * map.shape[3])])
    return found


def same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Average the larger of two maps (B, C, H, W) down to the size of the smaller."""
    size = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
    return _pooled(a, size), _pooled(b, size)


def _pooled(map: Tensor, size: tuple[int, int]) -> Tensor:
    return map if map.shape[2:] == size else F.adaptive_avg_pool2d(map, size)
