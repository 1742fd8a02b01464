"""Read the JSON files of a run folder: those that have a name of their own, and measurements."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgekd import files
from edgekd.errors import UsageError
from edgekd.report.view import count, dig
from edgekd.schema import RECORD, Schema

KINDS = (("timing", "artifact"), ("comparison",), ("failure",))
"""The tables that make an entry a measurement, a comparison or a failure."""
OWN = ("profile.json", "run.json", "scout.json", "compare.json", "report.json", "manifest.json")
REMEDY = "Move it away, or run the stage that wrote it again."
BEGIN = re.compile(rb'\[\s*\{\s*"schema_version": \d')
MOST_BYTES = 2**26
"""A file of measurements is smaller; a larger one is somebody else's, and not read."""

Entry = Mapping[str, Any]


def others_in(folder: Path, known: Any) -> list[Entry]:
    """What ``edgekd profile --output`` wrote into a folder under other names; each entry once.

    A file that cannot be read, or holds anything else, is somebody else's.

    Args:
        folder: the run folder itself.
        known: what ``profile.json`` holds.

    Raises:
        UsageError: one begins as they do, and is damaged.
    """
    found: list[Any] = list(known) if isinstance(known, list) else [known]
    before = len(found)
    for file in sorted(folder.glob("*.json")):
        if file.name not in OWN:
            found += [entry for entry in _entries(file) if entry not in found]
    return found[before:]


def entries_in(content: Any, file: Path) -> Any:
    """What a file of edgekd profile's holds, each entry as it would be written today.

    Raises:
        UsageError: one is of a newer edgekd.
    """
    if isinstance(content, list):
        return [RECORD.shown(entry, file) for entry in content]
    return RECORD.shown(content, file)


def own_file(file: Path, schema: Schema) -> dict[str, Any]:
    """What a file with a name of its own says; empty where there is none.

    Raises:
        UsageError: it cannot be read, holds no table or an empty one, or is of a newer edgekd.
    """
    content = read_json(file)
    if content is not None and not isinstance(content, dict):
        raise UsageError(f"{file} is not a table, but {type(content).__name__}. Run again.")
    if content == {}:
        raise UsageError(f"{file} is an empty table. Expected what edgekd wrote there. {REMEDY}")
    checked: dict[str, Any] = schema.shown(content or {}, file)
    return checked


def devices_in(files: Iterable[Entry]) -> list[str]:
    """The devices that a run, a scout or a comparison names."""
    found = [dig(file, *keys) for file in files for keys in (("device",), ("budget", "device"))]
    return [name for name in found if isinstance(name, str)]


def read_json(file: Path) -> Any:
    """What a file holds; None where there is none.

    Raises:
        UsageError: it cannot be read, is no JSON, or holds null, which nobody writes.
    """
    if not there(file):
        return None
    try:
        content = files.read_json(readable(file))
    except ValueError as error:
        raise UsageError(f"{file} is not valid JSON: {error}. {REMEDY}") from error
    if content is None:
        raise UsageError(f"{file} holds null. Expected what edgekd wrote there. {REMEDY}")
    return content


def there(file: Path, remedy: str = f"Expected a plain file of edgekd's. {REMEDY}") -> bool:
    """Whether there is a file; where something else has its name, that is not overlooked.

    Args:
        file: its path.
        remedy: what to do about something else.

    Raises:
        UsageError: a folder, a device, a pipe, or a link that leads nowhere has its name.
    """
    try:
        mode = file.stat().st_mode
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not file.is_symlink():
            return False
        found = f"cannot be read: {error.strerror}"
    else:
        if stat.S_ISREG(mode):
            return True
        found = "is a folder" if stat.S_ISDIR(mode) else "is a device or a pipe"
    raise UsageError(f"{file} {found}. {remedy}")


def readable(file: Path) -> Path:
    """The file, or a sentence why it cannot be opened."""
    try:
        file.open("rb").close()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}.") from error
    return file


def _entries(file: Path) -> list[Entry]:
    """All of a file's, where they are edgekd's.

    Raises:
        UsageError: it begins as one of edgekd profile's does, and is damaged.
    """
    try:
        content = None if file.stat().st_size > MOST_BYTES else read_json(file)
    except OSError:
        return []
    except UsageError:
        if _begins_as_ours(file):
            raise
        return []
    entries: list[Any] = content if isinstance(content, list) else [content]
    if not all(map(_is_entry, entries)):
        return []
    return [RECORD.shown(entry, file) for entry in entries]


def _begins_as_ours(file: Path) -> bool:
    if not file.is_file():  # opening a pipe waits for whoever writes into it
        return False
    with suppress(OSError), file.open("rb") as content:
        return BEGIN.match(content.read(100)) is not None
    return False


def _is_entry(entry: Any) -> bool:
    """Whether it has a schema's version and the tables of one kind of entry."""
    if not isinstance(entry, Mapping) or count(entry.get("schema_version")) is None:
        return False
    return any(all(isinstance(dig(entry, key), Mapping) for key in keys) for keys in KINDS)
