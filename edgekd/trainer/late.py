"""Late: answers that a GPU sends, and that are kept when they have arrived."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgekd.data import Indices
from edgekd.trainer.memo import Store


class Late:
    """Answers on their way from the device, which nobody waits for."""

    def __init__(self) -> None:
        self._queue: deque[tuple[Any, Indices, dict[str, Tensor]]] = deque()

    def add(self, keys: Indices, tables: Mapping[str, Tensor]) -> None:
        """Send for rows; what belongs to a CPU is there."""
        if all(table.device.type == "cpu" for table in tables.values()):
            self._queue.append((None, keys, dict(tables)))
            return
        there = {
            kind: torch.empty(table.shape, dtype=table.dtype, pin_memory=True).copy_(
                table, non_blocking=True
            )
            for kind, table in tables.items()
        }
        arrived: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        self._queue.append((arrived, keys, there))

    def write(self, store: Store, *, wait: bool = False) -> None:
        """Write what has arrived, or all."""
        while self._queue:
            arrived, keys, tables = self._queue[0]
            if arrived is not None and not arrived.query():
                if not wait:
                    return
                arrived.synchronize()
            self._queue.popleft()
            store.put(keys, tables)
