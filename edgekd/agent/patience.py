"""Patience: how long a model may take for what a healthy one does at once.

What runs is others' work: a loop in it may have no end, and an hour, which a whole job has, is long
to wait for that.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

LEAST_S = 60.0
"""For loading a model and running it once, at least: boards are slow."""
FAILED = 1


@contextmanager
def within(seconds: float, model: str, emit: Callable[[Dict[str, Any]], None]) -> Iterator[None]:
    """End this process, with a word on why, unless the block is done in time."""
    timer = threading.Timer(seconds, _end, [seconds, model, emit])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(seconds: float, model: str, emit: Callable[[Dict[str, Any]], None]) -> None:
    text = (
        f"{model} was not loaded and run once within {seconds:g} s, and was ended: it hangs, or is "
        f"far too large for this device. Allow more (--max-seconds of more than {seconds / 20:g}: "
        "it gets 20 times as much), or export a smaller one."
    )
    emit({"event": "error", "kind": "time", "message": text})
    os._exit(FAILED)


def expendable() -> None:
    """Where memory runs out, this process is the one to be ended, and none of the user's."""
    with suppress(OSError):  # Linux alone has it
        Path("/proc/self/oom_score_adj").write_text("1000")
