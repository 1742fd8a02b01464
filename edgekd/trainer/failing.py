"""Failing: of the processes of one training, the first that fails tells why; the others only end.

Whoever fails leaves word in the store where the processes met, which the launcher keeps; what the
others then see is a closed connection, and that would bury the reason.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import Any

from torch import distributed

from edgekd.world import world

PATIENCE = timedelta(seconds=10)
"""For the store; it answers at once, or is gone."""
LOST = re.compile(
    "connection (closed|reset|refused)|broken pipe|socket|timed out|remote process|peer",
    re.IGNORECASE,
)
"""In what the backends say when another process is gone: each has its own words."""
DIED = (
    "another process of this training has ended without a word; it may have been killed. Give the "
    "same command again to go on from the last checkpoint, or let torchrun --max-restarts do so."
)


def met() -> bool:
    """Whether there are others, and this process has joined them."""
    return distributed.is_initialized() and world().size > 1


def speaks_first() -> bool:
    """Whether this process, which fails, is the first to do so since the launcher started all."""
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store: Any = distributed.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=PATIENCE,
            wait_for_workers=False,
        )
        return int(store.add(f"edgekd/failed/{attempt}", 1)) == 1
    except RuntimeError:  # who kept the store is gone, and did not go in silence
        return False


def was_lost(error: BaseException) -> bool:
    """Whether an error says no more than that another process is gone."""
    several = world().size > 1 and isinstance(error, RuntimeError)
    return several and LOST.search(str(error)) is not None
