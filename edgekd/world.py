"""World: how many processes train together, and which of them this one is."""

from __future__ import annotations

import os
from dataclasses import dataclass

from edgekd.errors import UsageError


@dataclass(frozen=True)
class World:
    """The processes of one training."""

    rank: int = 0
    """This one's number, from 0."""
    size: int = 1
    """How many there are."""
    neighbours: int = 1
    """How many of them are on this machine."""

    @property
    def is_main(self) -> bool:
        """Whether this one speaks and writes for all."""
        return self.rank == 0


def world() -> World:
    """As ``torchrun`` or ``accelerate launch`` says in the environment; else a single process.

    Raises:
        UsageError: what the environment says makes no sense.
    """
    said = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    if not said["WORLD_SIZE"]:
        return World()
    try:
        rank, size = int(said["RANK"]), int(said["WORLD_SIZE"])
        found = World(rank, size, int(said["LOCAL_WORLD_SIZE"] or size))
    except ValueError:
        found = World(-1)
    if not 0 <= found.rank < found.size:
        raise UsageError(
            f"RANK is {said['RANK']!r} and WORLD_SIZE {said['WORLD_SIZE']!r}; expected a number of "
            "a process, from 0, and how many there are. Start with torchrun or accelerate launch, "
            "or unset both."
        )
    return found
