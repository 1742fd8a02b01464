"""Shortage: what to lower where memory ran out, by the verb that was given."""

from __future__ import annotations

import sys

from edgekd.errors import ShortageError

TRAINING = (
    "Lower --batch-size, or keep fewer images in memory: --set data.memory_gb=0.5, --set "
    "data.workers=1, --limit"
)
LOWER = {
    **dict.fromkeys(("run", "teach", "distill", "compare"), TRAINING),
    "export": "Lower --calibration, or leave --explain out",
    "profile": "Lower --batch-size, or give fewer models at once",
    "scout": "Name fewer or smaller --students",
}


def advice(error: ShortageError) -> str:
    """What ran out, what to lower, and that nothing is lost."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    lower = LOWER.get(verb, "End other programs")
    return (
        f"{error} {lower}; or allow more (other programs, ulimit -v, a container's limit). What "
        "was finished is kept: the same command goes on from there."
    )
