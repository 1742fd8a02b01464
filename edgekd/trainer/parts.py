"""Parts: some images of a batch, what a teacher says to them, and where both lie."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from edgekd.data import Indices
from edgekd.features import Features

SMALL, SURE = 8, 16
"""Images in a part of a batch: with fewer, matrix products may be made in another order."""


def sizes_of(count: int) -> tuple[int, ...]:
    """How many images of a batch are computed at once, at most 18 sizes; the last is all of them.

    Two are the same for all batches, so that their answers are compared with one another's.
    """
    if count <= SURE:
        return (count,)
    step = max(SMALL, count // 16)
    return (*(s for s in sorted({SMALL, SURE, *range(step, count, step)}) if s < count), count)


def seen_share(views: int, epochs: int) -> float:
    """Share of all views of an image that so many epochs are expected to show."""
    return 1 - (1 - 1 / views) ** epochs


def tables_of(shown: Features) -> dict[str, Tensor]:
    found = {"logits": shown.logits, "embedding": shown.embedding}
    return {kind: table for kind, table in found.items() if table is not None}


def features_of(tables: Mapping[str, Tensor]) -> Features:
    return Features(tables["logits"], tables.get("embedding"))


def taken(image: Tensor, rows: Tensor) -> Tensor:
    """Some images of a batch, as they lie in memory."""
    return image.permute(0, 2, 3, 1)[rows].permute(0, 3, 1, 2)


def sent(tables: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """To the device, which nobody waits for."""
    return {kind: table.to(device, non_blocking=True) for kind, table in tables.items()}


def milliseconds(act: Callable[[], object], device: torch.device) -> float:
    """The least of three times that a GPU needs for something, in ms."""
    took = []
    for _ in range(3):
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        act()
        torch.cuda.synchronize(device)
        took.append(time.perf_counter() - began)
    return 1000 * min(took)


def placed(rows: Indices, device: torch.device) -> Tensor:
    made = torch.from_numpy(rows)
    return made if device.type == "cpu" else made.pin_memory().to(device, non_blocking=True)


def differs(a: Tensor, b: Tensor) -> Tensor:
    """Whether one bit does, as a tensor on their device, which nobody waits for; float32."""
    return (a.contiguous().view(torch.int32) != b.contiguous().view(torch.int32)).any()
