"""Trainer: the one training loop, and the evaluation that judges what it leaves."""

from edgekd.trainer.engine import Task
from edgekd.trainer.evaluate import Scores, evaluate
from edgekd.trainer.loop import Interrupted, Trained, Trainer

__all__ = ["Interrupted", "Scores", "Task", "Trained", "Trainer", "evaluate"]
