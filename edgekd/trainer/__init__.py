"""Trainer: the one training loop, and the evaluation that judges what it leaves."""

from edgekd.trainer.engine import Task
from edgekd.trainer.evaluate import Scores, evaluate
from edgekd.trainer.loop import RESULT, Interrupted, Trained, Trainer
from edgekd.trainer.settings import check

__all__ = ["RESULT", "Interrupted", "Scores", "Task", "Trained", "Trainer", "check", "evaluate"]
