"""The folders of a comparison's methods."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import combinations
from pathlib import Path

from edgekd.errors import UsageError

LONGEST = 80


def folder_of(text: str) -> str:
    """A folder's name for a method; other methods have other ones."""
    plain = text.lower().replace("(", ".of.").replace(")", ".")
    name = re.sub("[^a-z0-9._+-]", "", plain).strip(".")
    if len(name) > LONGEST:
        name = f"{name[:LONGEST]}-{sha256(name.encode()).hexdigest()[:8]}"
    return name


def check_folders(texts: Sequence[str]) -> None:
    """Refuse methods that would share one.

    Raises:
        UsageError: they are the same, written in other ways.
    """
    for one, two in combinations(texts, 2):
        if folder_of(one) == folder_of(two):
            raise UsageError(f"the methods {one!r} and {two!r} are the same. Leave one out.")


def left_out(out: Path, texts: Iterable[str]) -> list[str]:
    """The folders of methods that an earlier comparison trained and this one is not given."""
    trained = {file.parents[1].name for file in out.glob("*/seed-*/manifest.json")}
    return sorted(trained - {folder_of(text) for text in texts})
