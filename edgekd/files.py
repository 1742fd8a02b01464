"""Files and folders that appear complete or not at all: written aside, flushed, then renamed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgekd.agent.turns import taken
from edgekd.errors import UsageError

DRAFT = ".edgekd-draft."
"""How the names of private folders begin."""
REPLACED = "replaced"
"""In one of them, the folder that makes room for a new one."""
LARGEST = 2**26
"""Bytes of a JSON file of edgekd's; what is larger is none."""
SYSTEMS = re.compile(r"/dev$|/(proc|sys)(/|$)")
"""Folders that have names of devices, pipes and what other programs have opened."""
AGAIN = 20
LONGEST_NUMBER = 20
"""Signs of a whole number; more have no use, and trouble those who print or multiply them."""


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Yield a private path in the same folder; rename it to ``path`` if the block succeeds.

    The block may write a file or make a folder there. A folder that was at ``path`` is replaced.
    Nothing is left behind when the block fails.

    Raises:
        UsageError: the folder cannot be written: read-only, no space; or a device or a pipe is
            there.
    """
    check_ordinary(path)
    with writing(path), private_folder(path) as private:
        draft = private / path.name
        yield draft
        flush(draft)
        if draft.is_dir() and path.is_dir():
            path.rename(private / REPLACED)
        draft.replace(path)
        _sync_folder(path.parent)


@contextmanager
def private_folder(beside: Path) -> Iterator[Path]:
    """Yield a new, hidden folder beside what is being made; it goes with the block.

    It is locked meanwhile, and the system unlocks what a killed process held: what such a one left
    in the same place is told from what is in use, and goes as well.

    Raises:
        UsageError: it cannot be made: read-only, no space.
    """
    with writing(beside):
        beside.parent.mkdir(parents=True, exist_ok=True)
        sweep(beside.parent, depth=0)
        private, held = held_folder(beside.parent)
    try:
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)
        os.close(held)


def sweep(folder: Path, depth: int = 4) -> None:
    """Delete the private folders of killed processes in a folder, and some folders below.

    A folder that was about to replace another one, which had made room already, takes its place.
    """
    for place, names, _ in os.walk(folder):
        for name in [name for name in names if name.startswith(DRAFT)]:
            names.remove(name)
            _remove_unused(Path(place, name))
        if len(Path(place).relative_to(folder).parts) >= depth:
            names.clear()


def held_folder(within: Path) -> tuple[Path, int]:
    """A new private folder, and the descriptor that holds its lock; close it when the folder goes.

    Until then, and no longer than this process lives, :func:`sweep` leaves it alone.
    """
    while True:  # a sweep may be faster than the lock
        private = Path(tempfile.mkdtemp(prefix=DRAFT, dir=within))
        with suppress(FileNotFoundError):
            held = os.open(private, os.O_RDONLY)
            if taken(held) and private.exists():  # not where a sweep has it already
                return private, held
            os.close(held)


def _remove_unused(private: Path) -> None:
    with suppress(OSError):  # locked, or gone meanwhile, or another's link, or nobody can tell
        held = os.open(private, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (private / REPLACED).exists():
                _put_in_place(private)
            shutil.rmtree(private, ignore_errors=True)
        finally:
            os.close(held)


def _put_in_place(private: Path) -> None:
    """A folder that was whole, and killed between making room for it and taking the room."""
    for made in private.iterdir():
        place = private.parent / made.name
        if made.name != REPLACED and not place.exists():
            made.rename(place)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into sentences."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        do = "Free some space, make it writable, or"
        if error.errno == errno.ENOENT:
            do = "A folder on the way is gone, or no place for files:"
        raise UsageError(
            f"cannot write {path}: {error.strerror}. {do} choose another place (--output)."
        ) from error


def check_folder(path: Path) -> None:
    """Refuse, early, a folder that cannot be made or written into; nothing is left there.

    Raises:
        UsageError: a file stands in its way, or the disk is full or read-only.
    """
    with writing(path):
        tries = 0
        while not _has_room(path, tries):
            tries += 1


def _has_room(path: Path, tries: int) -> bool:
    """Whether there is some; not where the folder around it was removed at this very moment.

    It may be made anew by the next one; who finds none again and again is in no place for files.
    """
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir() and there.exists():
        raise UsageError(
            f"cannot write into {path}: {there} is a file. Choose another folder with --output."
        )
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
    except FileNotFoundError:
        if tries > AGAIN and there.exists():
            raise
        return False
    return True


def check_ordinary(path: Path) -> None:
    """Refuse to put a file in the place of a device or a pipe, which all would miss.

    Raises:
        UsageError: one is there.
    """
    with writing(path):
        special = path.exists() and not (path.is_file() or path.is_dir())
    if special or SYSTEMS.match(os.path.realpath(path.parent)):
        raise UsageError(f"{path} is a device or a pipe. Name a file or a folder with --output.")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with aside(path) as draft:
        draft.write_text(text, "utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all; infinities are refused, because JSON has none."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What :func:`write_json` wrote, or somebody who may mean harm.

    Raises:
        OSError: it cannot be read, or is no plain file; a pipe would be waited for without an end.
        ValueError: it is too large, or no JSON, or holds what :func:`write_json` never writes:
            numbers that a computer cannot hold, a key twice, too many levels to follow.
    """
    try:
        return json.loads(
            contents(path).decode("utf-8"),
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_table,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def contents(path: Path, most: int = LARGEST) -> bytes:
    """A whole file, where it is a plain one and has at most so many bytes.

    Raises:
        OSError: it cannot be read, or is a folder, a device or a pipe; which would be waited for.
        ValueError: it is larger.
    """
    held = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = os.fstat(held)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        if found.st_size > most:
            raise ValueError(f"it has {found.st_size:,} bytes; expected at most {most:,}")
        with os.fdopen(held, "rb", closefd=False) as file:
            size = max(found.st_size, 2**16)  # the system's own files say that they have none
            return file.read(min(most, size))  # and what is asked for is allocated first
    finally:
        os.close(held)


def _no_number(word: str) -> None:
    raise ValueError(f"it holds {word}, which is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _no_number(text[:20])
    return value


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        _no_number(f"{text[:20]}...")
    return int(text)


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"it says {twice[:60]!r} twice")
    return table


def cache_folder(name: str) -> Path:
    """A folder of edgekd's in the user's cache; it need not be there."""
    found = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(found).expanduser() / "edgekd" / name


def sha256(path: Path) -> str:
    """Hash of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(draft: Path) -> None:
    """Force what was written to the disk, so that a power cut cannot leave an empty name."""
    for file in [draft] if draft.is_file() else [f for f in draft.rglob("*") if f.is_file()]:
        with file.open("rb") as handle:
            _sync(handle.fileno())


def _sync(descriptor: int) -> None:
    """Wait for the disk; a file system that cannot be waited for is no failure, a full one is."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _sync_folder(folder: Path) -> None:
    """The new name itself must reach the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)
