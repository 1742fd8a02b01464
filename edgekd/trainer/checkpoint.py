"""Checkpoint: everything a training needs to go on as if it had never stopped, in one file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from edgekd.errors import UsageError
from edgekd.files import aside
from edgekd.models import archives
from edgekd.schema import CHECKPOINT
from edgekd.structure import cut, shown
from edgekd.trainer import collective
from edgekd.world import world

NAME = "checkpoint.pt"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state and the generators' state; the file is whole or absent."""
    with aside(path) as draft, draft.open("wb") as file:
        try:
            torch.save({**CHECKPOINT.head, **state, "generators": generators()}, file)
        except RuntimeError as error:  # torch hides what the system said behind a riddle
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Read a state back and set the generators; ``None`` where there is none yet.

    Several processes are all given what the main one finds.

    Raises:
        UsageError: the state is of another recipe, or cannot be read.
    """
    if not collective.shared(path.is_file()):
        return None
    try:
        state: dict[str, Any] = archives.load(_read(path), whole=True)
    except (pickle.UnpicklingError, ValueError) as error:
        raise UsageError(
            f"the checkpoint {path} cannot be read; start again with --restart. ({cut(str(error))})"
        ) from error
    state = CHECKPOINT.read(state, path)
    if state.get("fingerprint") != fingerprint:
        raise UsageError(
            f"{path.parent} holds an unfinished training of another recipe or other data, or of an "
            "edgekd that told trainings apart otherwise. Choose another --output, or start again "
            "with --restart."
        )
    try:
        _check_counts(state)
        set_generators(state["generators"])
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        first = cut(str(error).strip().partition("\n")[0], 120)
        raise UsageError(
            f"the checkpoint {path} is not whole ({first}); start again with --restart."
        ) from error
    return state


def _check_counts(state: Mapping[str, Any]) -> None:
    """Refuse what would be counted on from."""
    for name, kind in (("step", int), ("summed", int), ("seconds", float)):
        value = state[name]
        if type(value) is not kind or not 0 <= value < 2**53:
            raise ValueError(f"{name} is {shown(value)}")


def fingerprint_of(path: Path) -> str | None:
    """Of which training a state is; ``None`` where there is none, or it cannot be read."""
    if not path.is_file():  # opening a pipe waits for whoever writes into it
        return None
    try:
        state = archives.load(path, mapped=True)
    except (pickle.UnpicklingError, OSError, ValueError):
        return None
    found = state.get("fingerprint") if isinstance(state, dict) else None
    return found if isinstance(found, str) else None


def _read(path: Path) -> Path | BytesIO:
    """The file; of several processes, which may be on several machines, the main one reads it."""
    if world().size == 1:
        return path
    return BytesIO(collective.shared_bytes(path.read_bytes() if world().is_main else b""))


def generators() -> dict[str, Any]:
    """The state of torch's generators: the one of the CPU, and those of the GPUs."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_generators(state: Mapping[str, Any]) -> None:
    """Let them draw what they would have drawn next when their state was taken.

    There may be fewer GPUs now, or more.
    """
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available():
        known = state["cuda"][: torch.cuda.device_count()]
        torch.cuda.set_rng_state_all(known)
