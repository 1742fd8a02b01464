"""Scratch: private folders in the system's place for temporary files (``TMPDIR``)."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekd.errors import UsageError
from edgekd.files import held_folder, sweep

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""What a disk says that takes nothing, or nothing more; nobody who reads hears it."""
NO_ROOM = (*FULL, errno.EIO, errno.EACCES)
"""What a folder that cannot be written into says, and a file that cannot be read as well."""


@contextmanager
def temporary() -> Iterator[Path]:
    """Yield a new folder in the system's place for such; it goes with the block.

    What killed processes left there goes as well.

    Raises:
        UsageError: it cannot be made, or written into during the block: no space, read-only. What
            cannot be read elsewhere during the block is raised as it is.
    """
    private, held = held_temporary()
    try:
        yield private
    except OSError as error:
        if error.errno == errno.EIO and not _names(error):
            raise _broken(error) from error
        if not _is_ours(error, private):
            raise
        raise _no_room(error) from error
    finally:
        shutil.rmtree(private, ignore_errors=True)
        os.close(held)


def held_temporary() -> tuple[Path, int]:
    """As :func:`held_folder`, in the system's place for such; what killed processes left goes.

    Raises:
        UsageError: it cannot be made: no space, read-only.
    """
    try:
        place = Path(tempfile.gettempdir())
        sweep(place, depth=0)
        return held_folder(place)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise _no_room(error) from error


def _is_ours(error: OSError, private: Path) -> bool:
    """Whether a refusal is one to write into a private folder.

    Descriptors have no names: of these only a disk that is full is told from files that are read.
    Whoever writes to another place says so.
    """
    names = _names(error)
    if not names:
        return error.errno in FULL
    ours = Path(os.path.realpath(private))  # links in there lead to what is only read
    inside = any(Path(os.path.realpath(name)).is_relative_to(ours) for name in names)
    return inside and error.errno in NO_ROOM


def _names(error: OSError) -> list[str]:
    """The files that an error is about, where it says so; of a copy, both."""
    names = (error.filename, error.filename2)
    return [os.fsdecode(name) for name in names if isinstance(name, str | bytes | os.PathLike)]


def _no_room(error: OSError) -> UsageError:
    return UsageError(
        f"cannot write temporary files to {tempfile.gettempdir()}: {error.strerror}. Free some "
        "space there, or set TMPDIR to a folder in another place."
    )


def _broken(error: OSError) -> UsageError:
    """It does not say of which file, and both who reads and who writes hears it."""
    return UsageError(
        f"a disk failed ({error.strerror}): the one with the temporary files in "
        f"{tempfile.gettempdir()}, or that of the files that were read. The system's log (dmesg) "
        "names it. Set TMPDIR to a folder in another place, or copy what is read to another disk."
    )
