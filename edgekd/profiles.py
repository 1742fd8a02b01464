"""Recipes and device profiles by name: the user's own first, then the shipped ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edgekd.errors import RecipeError, UnknownNameError, reason
from edgekd.files import contents
from edgekd.strict import check_values, parse_toml


def find_profile(kind: str, name: str) -> Path:
    """A file given by path, or by name: the user's own folder first, then the shipped ones."""
    if name.endswith(".toml") or "/" in name:
        return Path(name)
    folders = profile_folders(kind)
    known = {file.stem: file for folder in reversed(folders) for file in folder.glob("*.toml")}
    if name in known:
        return known[name]
    raise UnknownNameError(kind.removesuffix("s"), name, sorted(known))


def profile_folders(kind: str) -> list[Path]:
    """Where profiles of a kind (``recipes``, ``devices``) are looked for, first one first."""
    package = Path(__file__).parent
    return [
        Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "edgekd" / kind,
        package / "_profiles" / kind,  # in a wheel
        package.parent / "profiles" / kind,  # in a checkout
    ]


def read_profile(path: Path, what: str) -> dict[str, Any]:
    """What a profile's file says.

    Args:
        path: the file.
        what: what it describes, for a message, such as ``the candidates in``.

    Raises:
        RecipeError: it cannot be read, or is no TOML, or holds what no profile holds.
    """
    try:
        table = parse_toml(contents(path).decode("utf-8-sig"))
        check_values(table)
    except UnicodeDecodeError as error:
        raise RecipeError(f"cannot read {what} {path}: it is not UTF-8 text.") from error
    except (OSError, ValueError, RecipeError) as error:
        said = reason(error).removesuffix(".")
        raise RecipeError(f"cannot read {what} {path}: {said}.") from error
    return table
