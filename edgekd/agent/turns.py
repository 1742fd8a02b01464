"""Whose turn it is: a device measures for one at a time, and says for whom.

The lock is the kernel's, on a file in the device's folder: it goes with the process that holds it,
however that ends. What is in the file says who that is, and is only believed while it is held.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Callable, Dict, Optional, Union

from edgekd.agent.failures import AgentError

Event = Dict[str, Any]
LOCK = "edgekd.lock"
FOR_ALL = 0o666  # two accounts that share a folder take turns, too
ALONE = ("profile", "build", "furnish")  # tasks that another one beside them would disturb
LOOK_S = 1.0
LOOKS, ASKING_S = 3, 0.05  # whoever only asks who holds it has it for a moment, too
LONGEST = 2**16  # characters of who holds it
UNREADABLE = (  # other accounts may write there, too
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)


def take_turn(folder: Path, job: Event, emit: Callable[[Event], None]) -> IO[str]:
    """Wait until the device is free, as long as the job's policy allows.

    Args:
        folder: the device's.
        job: what is to be done.
        emit: told whom it waits for.

    Returns:
        A file; the device is held while it is open.

    Raises:
        AgentError: of kind ``busy``: somebody else is at it; of kind ``disk``: the lock cannot be
            opened.
    """
    task = str(job.get("task") or "profile")
    if task not in ALONE:
        return Path(os.devnull).open()
    file = _opened(folder / LOCK)
    wait_s = float((job.get("policy") or {}).get("wait_s") or 0.0)
    began, told = time.monotonic(), None
    while not taken(file):
        holder = read_holder(file)
        waited = time.monotonic() - began
        if waited >= wait_s:
            file.close()
            raise AgentError("busy", _busy(holder, waited))
        if holder.get("owner", "") != told:
            emit({"event": "note", "text": f"waiting: {sentence(holder)}"})
            told = holder.get("owner", "")
        time.sleep(min(LOOK_S, wait_s - waited))
    if not _current(file, folder / LOCK):  # the folder was cleared meanwhile: there is another one
        file.close()
        return take_turn(folder, job, emit)
    _sign(file, job, task)
    return file


def take_alone(folder: Path) -> IO[str]:
    """Hold a device at once, for what is no task; it is free when the file is closed.

    Raises:
        AgentError: who holds it, as a part of a sentence; or why the lock cannot be opened.
    """
    file = _opened(folder / LOCK)
    if not taken(file):
        with file:
            raise AgentError("busy", sentence(read_holder(file)))
    return file


def holder(folder: Path) -> Optional[str]:
    """A sentence on who holds the device at this moment; None where nobody does."""
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return sentence(read_holder(folder / LOCK))
    except OSError:  # never held, or a file system without locks
        return None
    return None


def taken(file: Union[int, IO[str]]) -> bool:
    """Whether a file could be locked for this process alone, or there are no locks."""
    for _ in range(LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(ASKING_S)
        except OSError:  # a file system without locks: there is nobody to be told from
            return True
        else:
            return True
    return False


def _opened(path: Path) -> IO[str]:
    """The lock's file, made for all accounts if there is none; a link is not followed."""
    try:
        try:
            # without O_CREAT first: Linux may refuse that one for another account's file
            return os.fdopen(os.open(str(path), os.O_RDWR | os.O_NOFOLLOW), "r+")
        except FileNotFoundError:
            made = os.open(str(path), os.O_RDWR | os.O_NOFOLLOW | os.O_CREAT, FOR_ALL)
            os.fchmod(made, FOR_ALL)  # whatever the umask of whoever came first
            return os.fdopen(made, "r+")
    except OSError as error:
        raise AgentError(
            "disk",
            f"{path} cannot be opened: {error.strerror}. It is what keeps two measurements apart. "
            "Remove it there if it is another account's of old, or name a folder of this account's "
            "own: edgekd device add NAME ADDRESS --folder /other/place.",
        ) from error


def _current(file: IO[str], path: Path) -> bool:
    """Whether a file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _sign(file: IO[str], job: Event, task: str) -> None:
    """Say who holds the device, in one write, as others read it at any time."""
    signed = {
        "owner": str(job.get("owner") or "somebody"),
        "since": time.strftime("%H:%M"),
        "began": time.monotonic(),
        "limit_s": job.get("limit_s"),
        "task": task,
        "models": [str(model.get("name")) for model in job.get("models") or ()],
    }
    os.ftruncate(file.fileno(), 0)  # what was there is of somebody who is gone
    with suppress(OSError):  # without room for it, it is held by somebody without a name
        os.pwrite(file.fileno(), json.dumps(signed).encode("utf-8"), 0)


def read_holder(source: Union[Path, IO[str], str]) -> Event:
    """Who holds it, or nothing: it may have been taken this moment.

    Args:
        source: the lock's file, or what is in it.
    """
    try:
        if isinstance(source, Path):
            with source.open() as file:
                return read_holder(file)
        if not isinstance(source, str):
            source.seek(0)
            source = source.read(LONGEST)
        found: Event = json.loads(source)
        sentence(found, 0.0)
        return {**found}
    except UNREADABLE:
        return {}


def sentence(holder: Event, now: Optional[float] = None) -> str:
    """Who holds a device.

    Args:
        holder: as :func:`read_holder` gives it.
        now: seconds of the device's clock that never jumps; this machine's unless given.
    """
    if not holder:
        return "somebody is using this device"
    held = max(0.0, (time.monotonic() if now is None else now) - float(holder["began"]))
    what = " ".join([holder["task"], *holder["models"]])
    limit = holder.get("limit_s")
    more = "" if limit is None else f", for at most another {_span(max(0.0, limit - held))}"
    return (
        f"{holder['owner']} has been using this device since {holder['since']} by its clock, "
        f"for {_span(held)} ({what}){more}"
    )


def _busy(holder: Event, waited: float) -> str:
    after = f" after {_span(waited)} of waiting" if waited >= 1 else ""
    return (
        f"{sentence(holder)}{after}. Two measurements at once would spoil each other: try later, "
        "or wait in line (--wait)."
    )


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
