"""The user's own devices: listed, edited, forgotten; each a small TOML file of theirs."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from edgekd.boards import own_file, read_board
from edgekd.devices import reach
from edgekd.errors import DeviceError, RecipeError, UsageError
from edgekd.files import write_text
from edgekd.flow.boarding import can_be_called, quoted

FURNISHED = re.compile(r"/venv-[0-9a-f]{12}/bin/python$")


def remove(name: str, *, clean: bool = False) -> Path:
    """Forget a device.

    Args:
        name: the device.
        clean: whether to remove edgekd's files there as well.

    Returns:
        The file that is gone.

    Raises:
        UsageError: there is no such device of the user's own, or a folder in place of its file.
        DeviceError: it could not be cleaned; it is not forgotten then.
    """
    file = own_file(name)
    if not (can_be_called(name) and os.path.lexists(file)):  # a broken one can be forgotten, too
        known = ", ".join(row["name"] for row in rows()) or "none"
        raise UsageError(f"there is no device {name!r} of yours; there are: {known}.")
    if file.is_dir() and not file.is_symlink():
        raise UsageError(f"{file} is a folder; expected the file of a device. Remove it yourself.")
    if clean:
        try:
            reach(name).clear()
        except DeviceError as error:
            raise DeviceError(
                f"{error} {name} is not forgotten: leave --clean out to forget it all the same."
            ) from error
    file.unlink()
    return file


def clear(name: str) -> str:
    """Remove edgekd's files on a device, and forget an environment that was among them.

    Returns:
        The Python that the device is used with from now on; empty where nothing says.

    Raises:
        DeviceError: it cannot be reached.
    """
    device = reach(name)
    device.clear()
    if not is_own(name):
        return device.python
    connect = read_board(name).connect
    if FURNISHED.search(connect.python):
        set_python(name, connect.python_before)
    return read_board(name).connect.python


def furnished(name: str, python: str) -> None:
    """Use a device with the Python of an environment; the one before comes back with :func:`clear`.

    Raises:
        UsageError: the file is written in a way this cannot edit.
    """
    connect = tomllib.loads(own_file(name).read_text("utf-8")).get("connect", {})
    now, before = (str(connect.get(key, "")) for key in ("python", "python_before"))
    set_python(name, python, before if FURNISHED.search(now) else now)


def is_own(name: str) -> bool:
    """Whether it is the name of a device of the user's own, and neither an address nor a path."""
    return can_be_called(name) and own_file(name).is_file()


def rows() -> list[dict[str, Any]]:
    """The user's own devices, each with what its file says; or with what is wrong with that."""
    found = [_row(file) for file in sorted(own_file("any").parent.glob("*.toml"))]
    return [row for row in found if row["address"] or row["problem"]]  # not kinds of the user's


def _row(file: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"name": file.stem, "file": str(file), "problem": None}
    try:
        board = read_board(file.stem)
    except (RecipeError, UsageError) as error:
        return row | {"address": "", "kind": "", "title": "", "python": "", "problem": str(error)}
    connect = board.connect
    return row | {
        "address": connect.address,
        "kind": board.based_on,
        "title": board.title,
        "python": connect.python,
    }


def set_python(name: str, python: str, before: str = "") -> None:
    """Write down which Python a device is used with, and which one before; empty takes it out.

    Raises:
        UsageError: the file is written in a way this cannot edit.
    """
    file, keys = own_file(name), {"python": python, "python_before": before}
    text = file.read_text("utf-8")
    lines = [line for line in text.splitlines() if not re.match(r"\s*python(_before)?\s*=", line)]
    wanted = {key: value for key, value in keys.items() if value}
    if "[connect]" in lines:
        at = lines.index("[connect]") + 1
        lines[at:at] = [f"{key} = {quoted(value)}" for key, value in wanted.items()]
    edited = "\n".join(lines) + "\n"
    then, now = tomllib.loads(text), tomllib.loads(edited)
    for key in keys:
        then.get("connect", {}).pop(key, None)
    said = {key: now.get("connect", {}).pop(key) for key in keys if key in now.get("connect", {})}
    if said != wanted or then != now:
        raise UsageError(f'{file} could not be edited. Write python = "{python}" into [connect].')
    write_text(file, edited)
