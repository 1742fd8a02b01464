"""Features: what a network showed for one batch."""

from __future__ import annotations

from dataclasses import dataclass

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
    blocks: tuple[tuple[Tensor, ...], ...] = ()
    """The block outputs of each stage, (B, C_i, H_i, W_i) each."""

    def float(self) -> Features:
        """The same in float32, so that losses never run in half precision."""
        return Features(
            self.logits.float(),
            None if self.embedding is None else self.embedding.float(),
            tuple(stage.float() for stage in self.stages),
            tuple(tuple(block.float() for block in blocks) for blocks in self.blocks),
        )


LOGITS = frozenset({"logits"})
DEPTHS = ("logits", "embedding", "stages", "blocks")


def pair_stages(student: Features, teacher: Features) -> list[tuple[Tensor, Tensor]]:
    """Maps of the two networks, stage by stage, matched from the coarse end; fine to coarse.

    Raises:
        ValueError: one of them shows no maps.
    """
    count = min(len(student.stages), len(teacher.stages))
    if not count:
        raise ValueError("expected feature maps of both networks, and one of them shows none")
    return list(zip(student.stages[-count:], teacher.stages[-count:], strict=True))


def same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Average the larger of two maps (B, C, H, W) down to the size of the smaller."""
    size = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
    return _pooled(a, size), _pooled(b, size)


def _pooled(map: Tensor, size: tuple[int, int]) -> Tensor:
    return map if map.shape[2:] == size else F.adaptive_avg_pool2d(map, size)
