"""Optimising: timm's optimiser and schedule, as a recipe asks for them."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import create_optimizer_v2, get_optimizer_class
from timm.scheduler import create_scheduler_v2

from edgekd.errors import UsageError
from edgekd.recipe import Train
from edgekd.trainer.learner import Learner, Peers

FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
"""Optimisers that update all parameters in one piece of work on a GPU."""


def optimizer_of(learner: Learner | Peers, train: Train, device: torch.device) -> Any:
    """The optimiser of all that learns; fused on a GPU where it can be.

    Raises:
        UsageError: the optimiser refuses the settings.
    """
    try:
        return create_optimizer_v2(
            learner,
            train.optimizer,
            train.lr,
            train.weight_decay,
            train.momentum,
            **_ways(train.optimizer, device),
        )
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(
            f"the optimiser {train.optimizer} refuses these settings: {error}. "
            "Change them, or take another optimiser."
        ) from error


def _ways(name: str, device: torch.device) -> dict[str, Any]:
    """How that optimiser goes about it there.

    On a CPU one parameter after the other, which is what torch comes to by itself, after looking at
    all of them again in every step.
    """
    if (
        get_optimizer_class(name.lower().removeprefix("lookahead_"), bind_defaults=False)
        not in FUSED
    ):
        return {}
    return {"fused": True} if device.type == "cuda" else {"foreach": False}


def schedule_of(optimizer: Any, train: Train, per_epoch: int) -> Any:
    """The schedule of the learning rate, which is told the number of every step."""
    warmup: Any = min(train.warmup_epochs, train.epochs / 5)  # timm takes fractions
    scheduler, _ = create_scheduler_v2(
        optimizer,
        train.schedule,
        num_epochs=train.epochs,
        warmup_epochs=warmup,
        decay_epochs=train.epochs / 3,
        decay_milestones=[train.epochs // 2, train.epochs * 3 // 4],
        warmup_lr=train.lr / 100,
        step_on_epochs=False,
        updates_per_epoch=per_epoch,
    )
    return scheduler
