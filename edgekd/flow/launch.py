"""Launch: a verb in several processes, which see one folder and the same images."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgekd.claims import claim
from edgekd.errors import UsageError
from edgekd.files import private_folder
from edgekd.trainer.collective import meet, shared, wait

PATIENCE_S = 60.0
"""How long a network file system may take to show another machine what was made on it."""


@contextmanager
def claimed(out: Path, verb: str) -> Iterator[None]:
    """Hold a folder during the block; the main process does for all, and all are refused alike.

    Raises:
        UsageError: another command holds it; see :func:`edgekd.claims.claim`.
    """
    with ExitStack() as held:
        refused = ""
        if meet().is_main:
            try:
                held.enter_context(claim(out, verb))
            except UsageError as error:
                refused = str(error)
        refused = shared(refused)
        if refused:
            raise UsageError(refused)
        yield


@contextmanager
def one_first() -> Iterator[None]:
    """One process of each machine goes first: what it downloads is there for the others."""
    is_first = meet().size == 1 or int(os.environ.get("LOCAL_RANK", "0")) == 0
    if not is_first:
        wait()
    yield
    if is_first:
        wait()


def check_alike(known: str) -> None:
    """Refuse processes that would not train the same network.

    Args:
        known: hash of all that decides what comes out.

    Raises:
        UsageError: this one reads other images or weights than the main one.
    """
    meet()
    if shared(known) != known:
        raise UsageError(
            "this process reads other images or other weights than the main one; expected the "
            "same files on every machine. Copy them, or read them from one place."
        )


def check_seen(out: Path) -> None:
    """Wait until the main process has prepared a folder; refuse one that only its machine has.

    Raises:
        UsageError: this process is on a machine that does not see it.
    """
    wait()
    here = meet()
    if here.size == here.neighbours:
        return
    if here.is_main:
        with private_folder(out / "seen") as private:
            shared(private.name)
            wait()
        return
    name, since = shared(""), time.monotonic()
    while not (out / name).is_dir():
        if time.monotonic() - since > PATIENCE_S:
            raise UsageError(
                f"{out.absolute()} on this machine is not the folder that the main process "
                "writes; expected one that all machines share. Choose another --output."
            )
        time.sleep(0.1)
    wait()


def wrote(file: Path) -> bool:
    """Whether this very launch wrote a file, before it had to start all processes again.

    What ``--restart`` throws away is thrown away once, and not each time torchrun begins anew.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or not file.is_file():
        return False
    import psutil  # type: ignore[import-untyped]  # comes with accelerate

    began: float = psutil.Process(os.getppid()).create_time()
    return file.stat().st_mtime >= began
