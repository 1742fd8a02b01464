"""Task: one network to train, and all that decides what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekd.loading import Loaders
from edgekd.methods import Method
from edgekd.models import Backbone
from edgekd.recipe import Train
from edgekd.trainer.memo import Memo
from edgekd.trainer.studying import Library


@dataclass(frozen=True)
class Task:
    """One network to train."""

    student: Backbone
    teacher: Backbone | None
    method: Method
    loaders: Loaders
    train: Train
    folder: Path
    """Where the checkpoint, ``metrics.jsonl`` and ``student.safetensors`` are kept."""
    fingerprint: str
    """What the checkpoint must match to be gone on with."""
    library: Library | None = None
    """Where what is learned from the teacher alone is kept for later students."""
    peer: Backbone | None = None
    """A network that learns beside the student, each the other's teacher; there is no other."""
    memo: Memo | None = None
    """Where the teacher's answers are kept for the next time it is shown the same views."""
