"""Launched: what a verb may do in several processes, and which of them speaks."""

from __future__ import annotations

import atexit
import os
import sys
import time
import warnings
from collections.abc import Iterator

import click

from edgekd.errors import UsageError
from edgekd.world import World, world

TOGETHER = ("teach", "distill")
"""The verbs that several processes carry out together."""
TELLING_S, STARTING_S = 5.0, 20.0
"""How long another process may take to tell why it fails: it is about to, or starting still."""


def check_verb(verb: str | None) -> None:
    """Refuse a verb that one process has to carry out.

    Raises:
        UsageError: torchrun or accelerate launch started several.
    """
    size = world().size
    if size > 1 and verb is not None and verb not in TOGETHER:
        raise click.UsageError(
            f"edgekd {verb} is for one process, and a launcher has started {size}; expected "
            f"{' or '.join(TOGETHER)}. Train with these in several processes, and give edgekd "
            f"{verb} without torchrun or accelerate launch."
        )


def hush() -> None:
    """Let the main process alone print; whoever fails first still tells why.

    Raises:
        UsageError: what the launcher said makes no sense.
    """
    if not world().is_main:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  to the end
        atexit.register(sys.stdout.close)  # or Python warns of it
        warnings.simplefilter("ignore")


def speaks() -> bool:
    """Whether this process, which fails, is the one to tell why.

    Where it is not, this waits: the launcher ends all as soon as one has ended, and must not cut
    off the one that tells.
    """
    if _here().size > 1 and "torch" in sys.modules:
        from edgekd.trainer.failing import met, speaks_first

        if met():
            if not (first := speaks_first()):
                time.sleep(TELLING_S)
            return first
    if _here().rank:  # mostly all fail alike before they have met
        time.sleep(STARTING_S)
    return True


def who() -> str:
    """How a message begins."""
    here = _here()
    return f"edgekd, process {here.rank} of {here.size}" if here.rank else "edgekd"


def died(error: BaseException) -> str:
    """What to say where an error says no more than that another process is gone; else nothing."""
    if _here().size == 1 or "torch" not in sys.modules:  # which may be half imported
        return ""
    from edgekd.trainer.failing import DIED, was_lost

    return DIED if any(was_lost(one) for one in _behind(error)) else ""


def _behind(error: BaseException) -> Iterator[BaseException]:
    """It, and what was being dealt with when the launcher's signal came on top of it."""
    yield error
    before = error.__cause__ or error.__context__
    if before is not None and isinstance(error, KeyboardInterrupt | click.Abort):
        yield from _behind(before)


def leave() -> None:
    """All that was to be done together is done."""
    if world().size > 1 and "torch" in sys.modules:
        from edgekd.trainer.collective import leave

        leave()


def _here() -> World:
    try:
        return world()
    except UsageError:  # which is about to be told
        return World()
