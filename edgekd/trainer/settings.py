"""Settings: refuse what this machine cannot train with, before any data is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from accelerate.tracking import get_available_trackers
from timm.optim import list_optimizers

from edgekd.errors import RecipeError, UsageError, hint
from edgekd.recipe import Train
from edgekd.trainer.precision import resolve

SCHEDULES = ("cosine", "tanh", "step", "multistep", "poly", "constant", "wsd", "rsqrt")
"""timm's, without ``none``, and without ``plateau``, which waits for a figure nobody tells it."""


def check(train: Train, section: str = "train") -> None:
    """Refuse names nobody knows, and what is not installed or not computed here.

    Args:
        train: the settings.
        section: what the recipe calls them, ``train`` or ``teach``.

    Raises:
        RecipeError: naming the key, what was found and what was expected.
    """
    optimizer = train.optimizer.lower().removeprefix("lookahead_")
    _check_name(f"{section}.optimizer", optimizer, [str(name) for name in list_optimizers()])
    _check_name(f"{section}.schedule", train.schedule, SCHEDULES)
    try:
        resolve(train.precision)
    except UsageError as error:
        key = f"{section}.precision"
        raise RecipeError(f"{key} is {train.precision!r}: {error}", key) from error
    # Accelerate leaves out in silence what is not installed; who asked for it wants to know
    missing = set(train.trackers) - {str(name) for name in get_available_trackers()}
    if missing:
        raise RecipeError(
            f"{section}.trackers asks for {min(missing)}, which is not installed. Install it (pip "
            f"install {min(missing)}) or leave it out: metrics.jsonl is always written.",
            f"{section}.trackers",
        )


def _check_name(key: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise RecipeError(f"{key} is {name!r}, which there is not.{hint(name, known)}", key)
