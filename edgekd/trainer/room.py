"""Room: which folders of answers are in use, and which are deleted to keep a bound.

A folder is in use as long as somebody holds a shared lock on it, which ends with the process. What
is in use counts with all that its files may become; what is not, with what it takes.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

IN_USE_S = 3600
"""Where the file system knows no locks, a folder that was used within this time is in use."""


class Hold:
    """A folder in use, until it is let go.

    Args:
        folder: which is there.

    Raises:
        OSError: the folder cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder, os.O_RDONLY)
        self._close = weakref.finalize(self, _release, self._file, os.getpid())
        with suppress(
            OSError
        ):  # waits for one who is deleting it, which is found out by its number
            fcntl.flock(self._file, fcntl.LOCK_SH)

    def is_alone(self) -> bool:
        """Whether nobody else holds it; it is held by this one in either case."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            alone = not isinstance(error, BlockingIOError)  # or there are no locks
        else:
            alone = True
        with suppress(OSError):  # what did not become exclusive may have been lost on the way
            fcntl.flock(self._file, fcntl.LOCK_SH)
        return alone

    def let_go(self) -> None:
        """The folder is no longer in use; processes that were forked meanwhile do not hold it."""
        self._close()


def _release(file: int, process: int) -> None:
    """Unlock and close; in a process that was forked meanwhile, only close."""
    if os.getpid() == process:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)


@contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Among all processes, as far as the file system knows locks: room is given to one of them."""
    held = os.open(root, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def size(folder: Path) -> int:
    """What the files of a folder take once they are full, in bytes."""
    return sum(file.stat().st_size for file in folder.glob("*.rows"))


def given(root: Path, own: Path) -> int:
    """Bytes that belong to folders in use, but for one's own."""
    return sum(_in_bytes(folder, used=True) for folder in _others(root, own) if _is_used(folder))


def sweep(root: Path, own: Path, room: int) -> None:
    """Delete folders that nobody uses, the one not used longest first, until ``room`` is kept."""
    taken = size(own) + given(root, own)
    unused = [folder for folder in _others(root, own) if not _is_used(folder)]
    for folder in sorted(unused, key=_used_at, reverse=True):
        taken += _in_bytes(folder, used=False)
        if taken > room:
            shutil.rmtree(folder, ignore_errors=True)


def _others(root: Path, own: Path) -> list[Path]:
    return [f for f in root.iterdir() if f != own and re.fullmatch("[0-9a-f]{32}", f.name)]


def _in_bytes(folder: Path, *, used: bool) -> int:
    with suppress(FileNotFoundError):  # its user begins anew
        files = [file.stat() for file in folder.glob("*.rows")]
        return sum(file.st_size if used else 512 * file.st_blocks for file in files)
    return 0


def _used_at(folder: Path) -> float:
    with suppress(FileNotFoundError):
        return folder.stat().st_mtime
    return 0.0


def _is_used(folder: Path) -> bool:
    try:
        held = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return time.time() - _used_at(folder) < IN_USE_S
    finally:
        os.close(held)
    return False
