"""Trainer: the one training loop, and the evaluation that judges what it leaves."""

from edgekd.trainer.engine import Task
from edgekd.trainer.evaluate import Scores, evaluate
from edgekd.trainer.loop import RESULT, Interrupted, Trained, Trainer
from edgekd.trainer.rehearsal import rehearse
from edgekd.trainer.settings import check
from edgekd.trainer.studying import Library
from edgekd.trainer.together import Together

__all__ = [
    "RESULT",
    "Interrupted",
    "Library",
    "Scores",
    "Task",
    "Together",
    "Trained",
    "Trainer",
    "check",
    "evaluate",
    "rehearse",
]
