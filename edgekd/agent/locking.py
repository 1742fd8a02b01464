"""Fixed clocks while something is measured, only where asked for, and set back afterwards.

What was there before is written to a file first, so that a run that dies is put right by the next
start of the agent. After a restart of the device the file says nothing any more: the system has
set its own clocks.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from edgekd.agent import governors
from edgekd.agent.failures import AgentError
from edgekd.agent.system import read

ROOT = Path("/")
FOLDER = ".cache/edgekd-clocks"
"""In the home folder, and apart from all else, so that to clear that does not lose it."""
FILE = "clocks-before.json"
JETSON_FILE = "jetson-clocks-before.conf"


def place(otherwise: Path) -> Path:
    """Where the settings of before are kept: in one place for all of a user's runs.

    Args:
        otherwise: a folder for users who have no home.
    """
    try:
        return Path.home() / FOLDER
    except RuntimeError:
        return otherwise


@contextmanager
def held(folder: Path, wanted: bool, root: Path = ROOT) -> Iterator[List[str]]:
    """Fix the clocks meanwhile, if wanted; and put right what a run that died left fixed.

    Args:
        folder: as :func:`place` says; whoever comes next has to find it again.
        wanted: whether the clocks may be touched at all.
        root: of the file system.

    Yields:
        Sentences on what was changed; complete only after the end.

    Raises:
        AgentError: the clocks cannot be fixed here; with how to allow it.
    """
    notes = restore(folder, root)
    if not wanted:
        yield notes
        return
    other = _state(folder / FILE)
    if other is not None:
        raise AgentError(
            "clocks",
            f"another run (process {other.get('pid')}) has fixed the clocks of this device. "
            "Wait for its end.",
        )
    before = governors.changeable(root)
    _write(folder / FILE, {**_owner(root), "governors": before})
    try:
        governors.fix(before)
        if governors.has_jetson_clocks():
            governors.jetson_clocks("--store", str(folder / JETSON_FILE))
            governors.jetson_clocks()
        yield notes
    finally:
        notes.append(_set_back(folder) or _words(before))


def restore(folder: Path, root: Path = ROOT) -> List[str]:
    """Set back what a run that died left fixed.

    Returns:
        A sentence if there was something to do.
    """
    state = _state(folder / FILE)
    if state is None or _lives(state, root):
        return []
    if state.get("boot") != _boot(root):
        _forget(folder)
        return []
    left = _set_back(folder)
    return [left or "an earlier run had died with its clocks fixed; they were set back"]


def release(folder: Path, pid: int) -> None:
    """Set back what a process fixed that is about to be killed, or was this moment."""
    state = _state(folder / FILE)
    if state is not None and state.get("pid") == pid:
        _set_back(folder)


def _words(before: Dict[str, str]) -> str:
    found = " + ".join(sorted(set(before.values())))
    also = "jetson_clocks ran and " if governors.has_jetson_clocks() else ""
    now = f"{also}the governor was set to {governors.FIXED} meanwhile, as asked"
    return f"{now}, and set back to {found}"


def _set_back(folder: Path) -> Optional[str]:
    """Undo what the file says, and remove it; a sentence if that did not work."""
    state = _state(folder / FILE) or {}
    failed = []
    if (folder / JETSON_FILE).exists():
        try:
            governors.jetson_clocks("--restore", str(folder / JETSON_FILE))
            (folder / JETSON_FILE).unlink()
        except AgentError as error:
            failed.append(str(error))
    failed += governors.set_back(state.get("governors", {}))
    if failed:
        return f"the clocks could not be set back: {'; '.join(failed)}. A restart sets them back."
    _forget(folder)
    return None


def _forget(folder: Path) -> None:
    """Nothing is to be put right any more."""
    for name in (FILE, JETSON_FILE):
        with suppress(FileNotFoundError):
            (folder / name).unlink()
    if folder.name == Path(FOLDER).name:
        with suppress(OSError):  # it holds something else
            folder.rmdir()


def _owner(root: Path) -> Dict[str, Any]:
    """Who holds the clocks, so that nobody sets them back under a run that lives."""
    pid = os.getpid()
    return {"pid": pid, "born": _born(pid, root), "boot": _boot(root)}


def _lives(state: Dict[str, Any], root: Path) -> bool:
    born = _born(int(state.get("pid") or 0), root)
    return born is not None and born == state.get("born") and state.get("boot") == _boot(root)


def _born(pid: int, root: Path) -> Optional[str]:
    """When a process started, in ticks since the system did: a number that is not used again."""
    stat = read(root / f"proc/{pid}/stat")
    return stat.rpartition(")")[2].split()[19] if stat else None


def _boot(root: Path) -> Optional[str]:
    return read(root / "proc/sys/kernel/random/boot_id")


def _state(file: Path) -> Optional[Dict[str, Any]]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _write(file: Path, state: Dict[str, Any]) -> None:
    """Whole or not at all, and on the disk before anything is changed."""
    aside = file.with_suffix(".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("w", encoding="utf-8") as stream:
            json.dump(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(file)
    except OSError as error:
        raise AgentError(
            "clocks",
            f"the clocks were left alone, as {file} cannot keep what they were: {error}. "
            "Make room there.",
        ) from error
