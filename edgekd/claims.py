"""Claims: what a command makes is its own until it ends, and whoever comes meanwhile is told whose.

A claim is a lock of the kernel's on a hidden file, and goes with the process that holds it, however
that ends: what a killed one left is taken over. What is in the file says who that is, and is only
believed while it is held. A folder is claimed with all that lies in it, so that neither another
command may have it nor a part of it, nor a folder that it is a part of.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from itertools import islice
from pathlib import Path

from edgekd.agent.turns import taken
from edgekd.errors import UsageError
from edgekd.files import check_folder, writing

CLAIM = ".edgekd-claim"
"""In a folder that is claimed; what is claimed by its name alone has a hash of that behind it."""
DEPTH = 4
"""So many folders below are looked into: as many as a run has, and one more."""
MOST = 50_000
"""So many names below are looked at, the nearest first: it may be a folder above all images."""
LONGEST = 300
"""Bytes of what a claim says."""
OPEN = os.O_NOFOLLOW | os.O_NONBLOCK

_mine: ContextVar[tuple[Path, ...]] = ContextVar("claims", default=())
"""What the work at hand holds; another thread's work is another's."""
_locks: set[int] = set()
"""Descriptors of this process."""


@contextmanager
def claim(folder: Path, verb: str) -> Iterator[None]:
    """Hold a folder with all that is in it during the block; it is made if it is not there.

    What holds a folder around it already is not asked twice. Nothing is left of the claim at the
    end, nor of folders that were made for it and are still empty. File systems that know no locks
    keep nobody out.

    Args:
        folder: where results go.
        verb: what is done there, for whoever comes meanwhile.

    Raises:
        UsageError: somebody else holds it, a part of it, or what it is a part of; or it cannot be
            written, or is all that there is.
    """
    place = _place(folder)
    check_folder(folder)
    with _held(place, place / CLAIM, folder, verb):
        yield


@contextmanager
def claim_name(path: Path, verb: str) -> Iterator[None]:
    """As :func:`claim`, of one file, or of a folder that is replaced as a whole; only its name."""
    place = _place(path)
    check_folder(path.parent)
    with _held(place, _beside(place), path, verb):
        yield


def _place(path: Path) -> Path:
    place = Path(os.path.realpath(path))
    if not place.name:
        raise UsageError(f"{path} is the whole file system. Name a place in it with --output.")
    return place


def _beside(place: Path) -> Path:
    """What says that the name of a place is claimed, whatever its length."""
    digest = hashlib.sha256(os.fsencode(place.name)).hexdigest()[:12]
    return place.parent / f"{CLAIM}-{digest}"


@contextmanager
def _held(place: Path, file: Path, named: Path, verb: str) -> Iterator[None]:
    """Args: place: what is claimed; file: says so; named: the place in the user's words."""
    if {place, *place.parents} & set(_mine.get()):
        yield
        return
    owner, before = os.getpid(), _mine.get()
    with _made(file.parent):
        with writing(named):
            lock = _lock(file, named)
        try:
            with writing(named):
                _sign(lock, verb)
            _check_around(place, file, named)
            _mine.set((*before, place))
            yield
        finally:
            _mine.set(before)
            if os.getpid() == owner:  # one that was forked has closed it, and removes nothing
                _release(lock, file)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder; it goes, and what it lies in, where it was made and is empty at the end."""
    there = (folder, *folder.parents)
    missing = there[: next(n for n, place in enumerate(there) if place.exists())]
    try:
        yield
    finally:
        with suppress(OSError):
            for place in missing:
                place.rmdir()


def _lock(file: Path, named: Path) -> int:
    """The descriptor of the file, locked; the file is the one of that name.

    Raises:
        UsageError: it is held.
    """
    while True:  # whoever held it may be removing it
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(file, os.O_RDWR | os.O_CREAT | OPEN, 0o666)
        except FileNotFoundError:
            continue
        _locks.add(lock)
        if not taken(lock):
            words = _read(lock)
            _close(lock)
            raise _refusal(f"{named} is in use", words)
        if _is_named(lock, file):
            return lock
        _close(lock)


def _is_named(lock: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), file.lstat())
    except FileNotFoundError:
        return False


def _close(lock: int) -> None:
    _locks.discard(lock)
    os.close(lock)


def _release(lock: int, file: Path) -> None:
    """Remove the file, unless another one has its name by now, and then close it."""
    with suppress(OSError):  # the folder cannot be written to any more
        if _is_named(lock, file):
            file.unlink()
    _close(lock)


def _check_around(place: Path, own: Path, named: Path) -> None:
    """Look for claims on the place itself, above and below; everybody has made an own one first.

    Raises:
        UsageError: somebody has one.
    """
    for folder in (place, *place.parents):
        within = "" if folder == place else f" lies in {folder}, which"
        for file in {folder / CLAIM, _beside(folder)} - {own}:
            _check_free(file, f"{named}{within} is in use")
    for file in _below(place):
        if file != own:
            within = f"{file.parent} in " if file.parent != place else "a part of "
            _check_free(file, f"{within}{named} is in use")
            _remove(file)


def _below(place: Path) -> Iterator[Path]:
    """Claims on what lies in a folder; where there is too much in it, those on its nearest."""
    level, left = [place], MOST
    for _ in range(DEPTH + 1):
        deeper: list[Path] = []
        for folder in level:
            found, inner, left = _within(folder, left)
            yield from found
            deeper += inner
        level = deeper


def _within(folder: Path, most: int) -> tuple[set[Path], list[Path], int]:
    """Claims and folders among the first entries of a folder, and how many more may be read.

    The claim on the folder itself is among them wherever it stands.
    """
    claims: set[Path] = set()
    inner: list[Path] = []
    with suppress(OSError):  # a folder that may not be looked into
        claims |= {own for own in (folder / CLAIM,) if own.is_file()}
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in islice(entries, most):
            most -= 1
            if entry.is_dir(follow_symlinks=False):
                inner.append(folder / entry.name)
            elif entry.name.startswith(CLAIM):
                claims.add(folder / entry.name)
    return claims, inner, most


def _check_free(file: Path, what: str) -> None:
    """Refuse where somebody holds a claim; nobody does where nobody can tell."""
    with suppress(OSError):
        lock = os.open(file, os.O_RDONLY | OPEN)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refusal(what, _read(lock)) from None
        except OSError:
            return
        finally:
            os.close(lock)


def _remove(file: Path) -> None:
    """Of somebody who was killed; unless another one takes it over this moment."""
    with suppress(OSError):
        lock = os.open(file, os.O_RDWR | OPEN)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_named(lock, file):
                file.unlink()
        finally:
            os.close(lock)


def _sign(lock: int, verb: str) -> None:
    """Say who it is, in one write, as others read it at any time."""
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    words = f"edgekd {verb}, process {os.getpid()} on {socket.gethostname()}, since {since}"
    os.ftruncate(lock, 0)  # what a killed one said
    os.pwrite(lock, words.encode("utf-8", "replace")[:LONGEST], 0)


def _read(lock: int) -> str:
    """What its holder said; the folder may be anybody's, and hold anything."""
    with suppress(OSError):
        words = os.pread(lock, LONGEST, 0).decode("utf-8", "replace").strip()
        return words if words.isprintable() else ""
    return ""


def _refusal(what: str, words: str) -> UsageError:
    return UsageError(
        f"{what} by {words or 'another command'}. One command at a time writes to a folder: wait "
        "until that one has ended, or choose another --output."
    )


def _forget() -> None:
    """In a process that was forked: a lock would last as long as its last copy."""
    for lock in _locks:
        os.close(lock)
    _locks.clear()


os.register_at_fork(after_in_child=_forget)
