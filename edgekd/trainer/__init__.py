"""Trainer: the one training loop, and the evaluation that judges what it leaves."""

from edgekd.trainer.evaluate import Scores, evaluate
from edgekd.trainer.loop import RESULT, Interrupted, Trained, Trainer
from edgekd.trainer.memo import Memo
from edgekd.trainer.rehearsal import rehearse
from edgekd.trainer.settings import check
from edgekd.trainer.studying import Library
from edgekd.trainer.task import Task
from edgekd.trainer.together import Together

__all__ = [
    "RESULT",
    "Interrupted",
    "Library",
    "Memo",
    "Scores",
    "Task",
    "Together",
    "Trained",
    "Trainer",
    "check",
    "evaluate",
    "rehearse",
]
