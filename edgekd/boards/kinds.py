"""Kinds of boards: which there are, and which one a device is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from edgekd.boards import read_board
from edgekd.profiles import profile_folders


def kind_of(names: Iterable[str]) -> str | None:
    """The kind of board whose patterns say the most of what a board calls itself.

    Args:
        names: its name and its CPU's, its machine and instructions (``x86_64 avx2 avx512f``), its
            name and what it has (``NVIDIA Jetson AGX Orin, TensorRT 8.5.2``).

    Returns:
        The kind with the longest match: ``x86_64 avx2 avx512f`` says more than ``x86_64`` does.
        None where none matches.
    """
    said = [name for name in names if name]
    found: dict[str, int] = {}
    for kind, file in _shipped().items():
        rules = read_board(str(file)).match
        matches = (re.search(rule, name) for rule in rules for name in said)
        found[kind] = max((len(match.group()) for match in matches if match), default=0)
    best = max(found, key=lambda kind: found[kind])
    return best if found[best] else None


def shipped_kinds() -> list[str]:
    """Names of the kinds of boards that come with edgekd."""
    return sorted(_shipped())


def _shipped() -> dict[str, Path]:
    folders = profile_folders("devices")[1:]  # the first one is the user's
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.toml"))}
