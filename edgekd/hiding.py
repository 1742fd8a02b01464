"""Hiding: what an artifact says in place of where things lie here, as it is made to be shared.

A path, or the address of a device, becomes a mark and its last name: ``place:3f0c9ab21d77/photos``.
What a mark stands for is kept in the user's cache, so that it is found again on this machine; on
another one, or after the cache was emptied, whoever needs it has to say it. A key that lies there,
too, goes into each mark: without it, addresses and homes are soon guessed from their hash.
"""

from __future__ import annotations

import errno
import fcntl
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgekd.errors import UsageError
from edgekd.files import cache_folder, contents, write_text

MARK = "place:"
_MARKED = re.compile(r"(?P<before>.*?)place:(?P<name>[0-9a-f]{12})(?:/.*)?", re.DOTALL)
_PATH = re.compile(
    r"(?P<before>file://[\w.-]*|[\w.+-]+://|[\w.-]+[:/])?(?P<path>(?:~[\w.-]*)?/(?!/).*)",
    re.DOTALL | re.IGNORECASE,
)
_HOME = re.compile(r"(?:.*/)?(?:home|Users)/[^/]+/*|/root/*|~[^/]*/*|/*")
_HOST = re.compile(r"[\w-]+(?:[.:]+[\w-]+)+")
"""A host by its whole name or its number; those of the ssh configuration have names of any kind."""
_ADDRESS = re.compile(r"(?:(?P<kind>\w+)://)?[^/\s]*@.+|(?P<other>ssh|adb|scp|sftp)://.+")
_known: dict[str, str] = {}
"""Of this process: the cache may be one that cannot be written."""
MACHINE = Path("/etc/machine-id")
KEY = "key"
KEY_BYTES = 32
_keys: dict[Path, bytes] = {}
"""By the folder they lie in, or would."""


def hidden(value: Any) -> Any:
    """A copy of a JSON value whose texts that are places are marks."""
    if isinstance(value, Mapping):
        return {key: _hidden_entry(key, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [hidden(inner) for inner in value]
    return _hidden_text(value) if isinstance(value, str) else value


def _hidden_entry(key: str, value: Any) -> Any:
    if key == "device" and isinstance(value, str) and _HOST.fullmatch(value):
        return _mark(value, "ssh")
    return hidden(value)


def shown(value: Any) -> Any:
    """A copy of a JSON value whose marks are places again, where this machine knows them."""
    if isinstance(value, Mapping):
        return {key: shown(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [shown(inner) for inner in value]
    return _shown_text(value) if isinstance(value, str) else value


def nickname(device: str) -> str:
    """A device's name; of an address no more than its kind and a digest: ``ssh-9c1f20ab``."""
    found = _ADDRESS.fullmatch(device)
    if found is None and not _HOST.fullmatch(device):
        return device
    kind = (found and (found["kind"] or found["other"])) or "ssh"
    return f"{kind}-{_digest(device)[:8]}"


def unmarked(text: str) -> str:
    """The text with no more than the last name of what is hidden: ``…/photos``."""
    return re.sub(f"{MARK}[0-9a-f]{{12}}", "…", text)


def is_hidden(text: str) -> bool:
    """Whether a text is still a mark, so that this machine does not know what it stands for."""
    return _MARKED.fullmatch(text) is not None


def stranger(text: str, what: str, remedy: str) -> str:
    """What is wrong with a mark that this machine does not know, in words; of others, nothing.

    Args:
        text: a mark, or any other text.
        what: what it should be, as ``the device``.
        remedy: what to do, such as which option to give.
    """
    if not is_hidden(text):
        return ""
    return (
        f"{what} is not known on this machine: {text} is what an artifact says in place of it, as "
        f"it goes to others. {remedy}"
    )


def _hidden_text(text: str) -> str:
    if found := _ADDRESS.fullmatch(text):
        return _mark(text, found["kind"] or found["other"] or "ssh")
    found = _PATH.fullmatch(re.sub("^//+", "/", text))  # which are the same place
    if found is None:
        return text
    path = found["path"]
    last = "" if _HOME.fullmatch(path) else path.rstrip("/").rpartition("/")[2]
    return f"{found['before'] or ''}{_mark(path, last)}"


def _mark(text: str, last: str) -> str:
    name = _digest(text)[:12]
    _known[name] = text
    folder = cache_folder("places")
    with suppress(OSError, UsageError, UnicodeEncodeError):
        if not (folder / name).exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_text(folder / name, text)
    return f"{MARK}{name}/{last}" if last else f"{MARK}{name}"


def _digest(text: str) -> str:
    """The same for the same text of the same user, and for nobody else to guess the text by."""
    folder = cache_folder("places")
    if folder not in _keys:
        try:
            _keys[folder] = _kept_key(folder)
        except OSError:
            _keys[folder] = _machines_key()
    return hmac.digest(_keys[folder], text.encode("utf-8", "surrogatepass"), "sha256").hex()


def _machines_key() -> bytes:
    """Where none can be kept, the same each time all the same, if the machine has a number."""
    with suppress(OSError, ValueError):
        number = contents(MACHINE, 100)
        if len(number) >= KEY_BYTES:
            return hmac.digest(number, f"edgekd of {os.getuid()}".encode(), "sha256")
    return secrets.token_bytes(KEY_BYTES)


def _kept_key(folder: Path) -> bytes:
    """The user's key; whoever asks first makes it, and others wait for that.

    Raises:
        OSError: it cannot be kept.
    """
    with suppress(FileNotFoundError, ValueError):
        found = contents(folder / KEY, KEY_BYTES)
        if len(found) == KEY_BYTES:
            return found
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = os.open(folder / KEY, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(held, fcntl.LOCK_EX)
        found = os.pread(held, KEY_BYTES, 0)
        if len(found) < KEY_BYTES:  # new, or of somebody who was killed
            found = secrets.token_bytes(KEY_BYTES)
            if os.pwrite(held, found, 0) < KEY_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return found
    finally:
        os.close(held)


def _shown_text(text: str) -> str:
    found = _MARKED.fullmatch(text)
    if found is None:
        return text
    known = _known.get(found["name"])
    if known is None:
        with suppress(OSError, ValueError):
            known = Path(cache_folder("places") / found["name"]).read_text("utf-8")
    return text if known is None else f"{found['before']}{known}"
