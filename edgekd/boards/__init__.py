"""Boards: what is known of a kind of device, and of the user's own ones where they are.

A device profile is a TOML file, ``profiles/devices/NAME.toml``. The shipped ones describe kinds of
boards; the user's, in ``~/.config/edgekd/devices``, are written by ``edgekd device add``: they name
the kind (``based_on``) and say where the board is (``[connect] address``). Facts in them that were
not measured by edgekd's authors say so (``measured = false``), and traps name their source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekd.errors import RecipeError, UnknownNameError, UsageError
from edgekd.profiles import find_profile, profile_folders, read_profile
from edgekd.strict import at_least, check_ranges, freeze
from edgekd.targets import Target

METERS = ("ina3221", "nvml", "pmic", "rapl")
AFFINITY = re.compile(r"|big|little|\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*")


@dataclass(frozen=True)
class Connect:
    """How a board is reached."""

    address: str = ""
    """``ssh://user@host:port``, ``user@host``, a ``Host`` of the ssh configuration, ``adb://SERIAL``
    or ``local``; empty where only a kind of board is described."""
    python: str = ""
    """The Python there that has numpy and the runtime; empty is the address's, or ``python3``."""
    folder: str = ""
    """Where edgekd keeps its files there; empty is ``~/.cache/edgekd-agent``."""
    python_before: str = ""
    """What ``python`` was before ``edgekd device doctor --venv`` put its environment's there."""

    def __post_init__(self) -> None:
        given = (lambda text: "\0" not in text, "a text without zero bytes")
        check_ranges(self, python=given, folder=given)


@dataclass(frozen=True)
class Measure:
    """How a board is measured where the command line does not say."""

    runtime: str = ""
    """Empty is that of ``[export]``."""
    provider: str = ""
    threads: int = 0
    """0: as many as there are physical cores in the affinity."""
    affinity: str = ""
    """CPUs such as ``4-7``, ``big`` or ``little``; empty leaves it to the system."""
    spinning: bool = False

    def __post_init__(self) -> None:
        fits = (
            lambda text: AFFINITY.fullmatch(text) is not None,
            "CPUs such as 4-7, big or little",
        )
        check_ranges(self, threads=at_least(0), affinity=fits)


@dataclass(frozen=True)
class Limits:
    """What a board has; 0 or empty where it varies or is not known."""

    ram_mb: int = 0
    """The least that is sold."""
    power_w: float = 0.0
    """What its supply or its highest power mode gives."""
    power_modes: tuple[str, ...] = ()
    throttles_at_c: float = 0.0


@dataclass(frozen=True)
class Trap:
    """Something known to go wrong on a board."""

    text: str
    source: str
    """Where that is written, or ``measured``."""
    when: str = ""
    """What it depends on: a package, ``python`` or ``bits``, and how its release begins, such as
    ``onnxruntime 1.21`` or ``bits 32``; empty where it holds for every such board."""

    def __post_init__(self) -> None:
        words = (lambda text: not text or len(text.split()) == 2, "a name and how its value begins")
        said = (bool, "a text")
        check_ranges(self, text=said, source=said, when=words)

    def applies(self, found: Mapping[str, str]) -> bool:
        """Whether it holds for a board.

        Args:
            found: releases of ``python`` and of the packages there; ``bits`` of the Python.
        """
        name, _, begins = self.when.partition(" ")
        return not self.when or _begins(found.get(name, ""), begins)


@dataclass(frozen=True)
class Board:
    """A device profile."""

    name: str
    title: str = ""
    """Such as ``Raspberry Pi 5 (4 x Cortex-A76, VideoCore VII)``."""
    based_on: str = ""
    """The kind of board, where the file is of the user's own one."""
    measured: bool = False
    """Whether edgekd's authors measured what it says."""
    match: tuple[str, ...] = ()
    """Regular expressions for what a board says of itself; the kind of one that is added is found
    by them, see :func:`edgekd.boards.kinds.kind_of`."""
    connect: Connect = field(default_factory=Connect)
    export: Target = field(default_factory=Target)
    measure: Measure = field(default_factory=Measure)
    limits: Limits = field(default_factory=Limits)
    meters: tuple[str, ...] = ()
    traps: tuple[Trap, ...] = ()

    @property
    def runtime(self) -> str:
        """What runs models there."""
        return self.measure.runtime or self.export.runtime


def read_board(name: str) -> Board:
    """The profile of a name or a path, upon what it is based on.

    Raises:
        UnknownNameError: there is no such profile.
        RecipeError: it cannot be read, or is based on itself.
    """
    path = find_profile("devices", name)
    table = _table(path)
    if table.get("based_on"):
        under = find_profile("devices", str(table["based_on"]))
        kind = _table(under)
        if kind.get("based_on"):
            raise RecipeError(f"{path} is based on {under}, which is based on another. Name that.")
        table = _over(kind, table)
    traps = _traps(path, table.pop("traps", []))
    export = table.pop("export", {})
    try:
        if isinstance(export, dict):
            export = {"name": path.stem, **export}
        made = freeze(Board, {"name": path.stem, **table, "export": export})
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}", error.key) from error
    _check(path, made)
    return Board(**{**made.__dict__, "traps": traps})


def has_board(name: str) -> bool:
    """Whether there is a profile of this name."""
    try:
        return find_profile("devices", name).is_file()
    except UnknownNameError:
        return False


def board_names() -> list[str]:
    """Names of all profiles, the user's own among them."""
    folders = profile_folders("devices")
    return sorted({file.stem for folder in folders for file in folder.glob("*.toml")})


def own_boards() -> list[str]:
    """Names of the user's own devices: those that say where they are.

    A file that cannot be read is left out: it has nothing to do with what is asked for.
    """
    return [name for name in board_names() if _is_somewhere(name)]


def _is_somewhere(name: str) -> bool:
    try:
        return bool(read_board(name).connect.address)
    except UsageError:
        return False


def own_file(name: str) -> Path:
    """Where the profile of a device of the user's own lies, or would."""
    return profile_folders("devices")[0] / f"{name}.toml"


def defaults_of(device: str) -> Measure:
    """How a device is measured where the command line does not say.

    Args:
        device: name of a profile; anything else, such as an address, has no defaults of its own.
    """
    if not has_board(device):
        return Measure()
    board = read_board(device)
    return replace(board.measure, runtime=board.runtime)


def _table(path: Path) -> dict[str, Any]:
    return read_profile(path, "the device profile")


def _over(kind: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """One table upon another, section by section."""
    merged = dict(kind)
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = {**merged[key], **value} if both else value
    return merged


def _traps(path: Path, entries: Any) -> tuple[Trap, ...]:
    try:
        return tuple(freeze(Trap, entry, "traps") for entry in entries)
    except (RecipeError, TypeError) as error:  # the other one of what is no list
        raise RecipeError(f"{path}: every trap needs a text and a source: {error}") from error


def _begins(value: str, begins: str) -> bool:
    """Whether a release or a name begins so; 1.21 begins 1.21.0 and not 1.210."""
    rest = value.removeprefix(begins)
    digits = begins[-1:].isdigit() and rest[:1].isdigit()
    return value.startswith(begins) and not digits


def _check(path: Path, board: Board) -> None:
    unknown = [meter for meter in board.meters if meter not in METERS]
    if unknown:
        raise RecipeError(f"{path}: meters has {unknown[0]!r}; expected of {', '.join(METERS)}.")
    for pattern in board.match:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise RecipeError(
                f"{path}: match has {pattern!r}, which cannot be read: {error}."
            ) from error
