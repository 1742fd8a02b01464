"""Take a device on board: ask it what it is, and write it down as one of the user's own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.boards import Board, Connect, own_file, read_board
from edgekd.boards.kinds import kind_of, shipped_kinds
from edgekd.devices import AGENT, Device, device_at, ship
from edgekd.errors import UnknownNameError, UsageError
from edgekd.files import write_text

LONGEST = 64
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
RESERVED = ("local",)
NONE = "none"
ASKING_S = 600.0  # five imports, each in a process of its own, from a slow card


@dataclass(frozen=True)
class Added:
    """A device that was added."""

    name: str
    file: Path
    board: Board
    survey: Mapping[str, Any] | None
    """What the agent saw there; None where nobody asked."""
    likely: str | None = None
    """The kind that what it says of itself fits, where somebody looked."""


def add(
    name: str, connect: Connect, *, kind: str = "", offline: bool = False, replace: bool = False
) -> Added:
    """Write down a device: where it is, and which kind of board.

    Args:
        name: what it is called from now on.
        connect: how it is reached.
        kind: a profile's name, or ``none``; empty asks the device what it is.
        offline: whether to take the kind on trust, and not to connect.
        replace: whether a device of that name may be overwritten.

    Raises:
        UsageError: the name cannot be a device's, or is taken.
        UnknownNameError: there is no such kind, or no such address.
        DeviceError: it cannot be reached.
    """
    _check_name(name, replace=replace)
    _check_kind(kind, offline=offline)
    for text in (connect.address, connect.python, connect.folder):
        quoted(text)  # refused before anybody is asked
    connect = _found(connect)
    reached = device_at(_completed(connect, kind), name)
    survey = None if offline else look_at(reached)
    likely = None if survey is None else kind_of(names_of(survey))
    kind = kind or likely or NONE
    file = own_file(name)
    write_text(file, _text(connect, "" if kind == NONE else kind))
    return Added(name, file, read_board(name), survey, likely)


def look_at(device: Device) -> dict[str, Any]:
    """What the agent sees there: what the device is, how it does, and what is installed.

    Raises:
        DeviceError: it cannot be reached, or has no Python that the agent runs on.
    """
    found = ship(device, {"agent": AGENT, "task": "survey"}, {}, ASKING_S)
    return {key: value for key, value in found.items() if key != "event"}


def names_of(survey: Mapping[str, Any]) -> list[str]:
    """What a board says of itself, for :func:`edgekd.boards.kinds.kind_of`."""
    device = survey["device"]
    soc, cpu = str(device.get("soc") or ""), str(device.get("cpu") or "")
    machine = " ".join([str(device["machine"]), *(device.get("cpu_flags") or ())])
    tensorrt = packages(survey).get("tensorrt")
    whole = f"{soc}, TensorRT {tensorrt}" if soc and tensorrt else ""
    return [soc, cpu, machine, whole]


def packages(survey: Mapping[str, Any]) -> dict[str, str]:
    """Releases of the packages that its Python has."""
    found = survey["packages"]
    return {name: str(one["version"]) for name, one in found.items() if one["version"]}


def can_be_called(name: str) -> bool:
    """Whether a device can have this name; its file is then in the folder of the user's own."""
    fits = NAME.fullmatch(name) is not None and len(name) <= LONGEST
    return fits and not name.endswith(".toml")


def _check_name(name: str, *, replace: bool) -> None:
    if not can_be_called(name):
        raise UsageError(
            f"a device cannot be called {name!r}; expected letters, digits, dots, dashes and "
            f"underscores, {LONGEST} at most, such as pi5 or lab-orin."
        )
    if name in RESERVED or name in shipped_kinds():
        taken = "this machine" if name in RESERVED else "a kind of board"
        raise UsageError(f"{name!r} is {taken}. Choose another name for the device.")
    if own_file(name).exists() and not replace:
        raise UsageError(
            f"there is a device {name!r} already: {own_file(name)}. Give --replace to overwrite it."
        )


def _check_kind(kind: str, *, offline: bool) -> None:
    if kind in ("", NONE):
        if offline and not kind:
            raise UsageError(
                "without connecting, nothing says which kind of board it is. Give --profile KIND "
                "(edgekd list device), or --profile none."
            )
        return
    board = read_board(kind)
    if board.connect.address or board.based_on:
        raise UsageError(f"{kind} is a device of yours. Give a kind of board: edgekd list device")


def _found(connect: Connect) -> Connect:
    """:func:`split`, with a hint for the bare name of a machine, which is no address."""
    try:
        return split(connect)
    except UnknownNameError as error:
        if NAME.fullmatch(connect.address) is None:
            raise
        raise UsageError(f"{error} A machine of that name: ssh://{connect.address}") from error


def split(connect: Connect) -> Connect:
    """The Python out of the address, so that it can be replaced by that of an environment.

    Raises:
        UnknownNameError: it is no address.
    """
    python = device_at(Connect(connect.address)).python  # refuses what is no address
    bare = connect.address.removesuffix(python)
    if bare == connect.address or not python.startswith("/"):  # a host may be called python3
        return connect
    return Connect(bare, connect.python or python, connect.folder)


def _completed(connect: Connect, kind: str) -> Connect:
    """With what the kind says where the command line does not: a Jetson Nano's Python is old."""
    given = read_board(kind).connect if kind not in ("", NONE) else Connect()
    return Connect(connect.address, connect.python or given.python, connect.folder or given.folder)


def _text(connect: Connect, kind: str) -> str:
    title = read_board(kind).title if kind else "A device of a kind that no profile describes"
    lines = [f"# {title}; added by edgekd device add."]
    lines += [f"based_on = {quoted(kind)}"] if kind else []
    lines += ["", "[connect]", f"address = {quoted(connect.address)}"]
    lines += [f"python = {quoted(connect.python)}"] if connect.python else []
    lines += [f"folder = {quoted(connect.folder)}"] if connect.folder else []
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A TOML string: JSON's, but for the surrogates beyond 16 bits and for the delete character.

    Raises:
        UsageError: bytes of the command line that are no text.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"{text!r} is no text in UTF-8. Write it in this encoding.") from error
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
