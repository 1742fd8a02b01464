"""Recipe: everything that decides a run's result, read strictly from TOML and frozen."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgekd.errors import RecipeError, reason
from edgekd.files import contents
from edgekd.formula import parse_method
from edgekd.hiding import shown
from edgekd.profiles import find_profile
from edgekd.sections import Data, Export, Network, Profile, Train
from edgekd.strict import check_values, freeze, line_of, override, parse_toml, term_table

__all__ = [
    "Data",
    "Export",
    "Network",
    "Profile",
    "Recipe",
    "Train",
    "read_text",
    "recipe_from",
    "toml_of",
]

LARGEST = 2**20
"""Bytes of a recipe's file; what is larger is something else."""
METHOD = "ce + 0.9*kd"
"""What is distilled with where nothing else is said."""


@dataclass(frozen=True)
class Recipe:
    """One run, whole. ``method`` maps each term to its ``weight`` and its options."""

    data: Data = field(default_factory=Data)
    teacher: Network = field(default_factory=Network)
    student: Network = field(default_factory=Network)
    peer: Network = field(default_factory=lambda: Network(""))
    """A network that learns beside the student, in place of a teacher."""
    method: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: parse_method(METHOD))
    teach: Train = field(default_factory=Train)
    """How the teacher is trained where it comes without weights."""
    train: Train = field(default_factory=Train)
    export: Export = field(default_factory=Export)
    profile: Profile = field(default_factory=Profile)

    @classmethod
    def load(cls, source: Path | str, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe by path, or a shipped or own one by name, then apply ``key=value``.

        Raises:
            RecipeError: naming file, line and key.
        """
        path = find_profile("recipes", str(source))
        text = read_text(path)
        try:
            table = parse_toml(text)
        except ValueError as error:
            raise RecipeError(f"{path}: not valid TOML: {error}.") from error
        try:
            recipe_from(table)
        except RecipeError as error:
            line = line_of(text, error.key)
            where = f"{path}{f', line {line}' if line else ''}"
            raise RecipeError(f"{where}: {error}", error.key) from error
        return recipe_from(table, overrides)  # what is wrong now is not the file's fault

    @property
    def sha256(self) -> str:
        """Hash of the whole content, the same for equal recipes."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, as JSON holds them."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=dict))
        return plain

    def to_toml(self, made: Callable[[Any], Any] = lambda table: table) -> str:
        """The recipe as a TOML file that :meth:`load` reads back unchanged.

        Args:
            made: what to make of its tables first.
        """
        lines = []
        for section, values in made(self.to_dict()).items():
            lines.append(f"[{section}]")
            lines += [f"{_key(key)} = {toml_of(value)}" for key, value in values.items()]
            lines.append("")
        return "\n".join(lines)


def recipe_from(table: Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Check a nested table against the recipe's fields, and freeze it.

    What an artifact's recipe hides is what it stands for on this machine: :mod:`edgekd.hiding`.
    """
    check_values(table)
    found = shown(table)
    merged: dict[str, Any] = {k: dict(v) if isinstance(v, dict) else v for k, v in found.items()}
    method = merged.setdefault("method", METHOD)
    if isinstance(method, str):
        merged["method"] = parse_method(method)
    for text in overrides:
        override(merged, text)
    check_values(merged)
    if isinstance(merged["method"], Mapping):
        merged["method"] = {name: term_table(name, v) for name, v in merged["method"].items()}
    return freeze(Recipe, merged)


def read_text(path: Path) -> str:
    """The file's text, or a :class:`RecipeError` that says what is wrong with the file."""
    try:
        return _bytes_of(path).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise RecipeError(f"cannot read the recipe {path}: it is not UTF-8 text.") from error
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"cannot read the recipe {path}: {reason(error)}. Correct its path, or "
            "give the name of one of edgekd list recipe."
        ) from error


def _bytes_of(path: Path) -> bytes:
    """What the file holds; of pipes those that the process was given: others may have no writer."""
    given = re.fullmatch(r"/dev/stdin|(?:/dev|/proc/self)/fd/(\d{1,9})", str(path))
    if given is None or stat.S_ISREG(path.stat().st_mode):
        return contents(path, LARGEST)
    with os.fdopen(int(given[1] or 0), "rb", closefd=False) as pipe:
        found = pipe.read(LARGEST + 1)
    if len(found) > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} bytes")
    return found


def toml_of(value: Any) -> str:
    """A value of a recipe as TOML, in one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {toml_of(v)}" for key, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml_of(v) for v in value) + "]"
    # JSON's numbers, truths and texts are TOML's, but for one character that TOML wants escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else toml_of(name)
