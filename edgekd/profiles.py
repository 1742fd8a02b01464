"""Recipes and device profiles by name: the user's own first, then the shipped ones."""

from __future__ import annotations

import os
from pathlib import Path

from edgekd.errors import UnknownNameError


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
