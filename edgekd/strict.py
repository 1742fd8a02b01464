"""Read a recipe's parts strictly: tables into dataclasses, ``key=value``, the method's formula."""

from __future__ import annotations

import inspect
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from edgekd.errors import RecipeError, hint
from edgekd.formula import parse_method

T = TypeVar("T")
Rule = tuple[Callable[[Any], bool], str]
"""Whether a value is in range, and how a message calls the range."""


def at_least(low: float) -> Rule:
    return lambda value: value >= low, f"at least {low:g}"


def above(low: float) -> Rule:
    return lambda value: value > low, f"more than {low:g}"


def between(low: float, high: float) -> Rule:
    return lambda value: low <= value <= high, f"{low:g} to {high:,.0f}"


def one_of(*names: str) -> Rule:
    return lambda value: value in names, f"one of {', '.join(names)}"


SHARE: Rule = (lambda value: 0 < value < 1, "a share between 0 and 1")
DECAY: Rule = (lambda value: 0 <= value < 1, "at least 0 and less than 1")
DEEPEST = 16
"""Tables and lists inside each other; no recipe has as many."""
LARGEST = 2**63
"""No whole number of a recipe is as large, nor could PyTorch take it."""


def check_ranges(made: object, **rules: Rule) -> None:
    """Refuse the first field of a dataclass that is out of its range.

    Raises:
        RecipeError: with the field's name as key.
    """
    for name, (fits, wanted) in rules.items():
        value = getattr(made, name)
        if not fits(value):
            raise RecipeError(f"{name} is {value!r}; expected {wanted}.", name)


def check_values(table: Any) -> None:
    """Refuse what no recipe holds and what not every reader, writer or message could cope with.

    Raises:
        RecipeError: values too deep inside each other, a whole number of 2^63 or more, text that
            is not Unicode.
    """
    level: list[tuple[str, Any]] = [("", table)]
    for _ in range(DEEPEST + 1):
        for key, value in level:
            if isinstance(value, int) and abs(value) >= LARGEST:
                raise RecipeError(f"{key} is beyond 2^63; expected a smaller whole number.", key)
            if isinstance(value, str) and not is_unicode(value):
                raise RecipeError(f"{key} is {value!r}, which is not UTF-8; rename it.", key)
        level = [inner for key, value in level for inner in _inside(key, value)]
    if level:
        key = level[0][0]
        raise RecipeError(f"{key[:60]} ...: more than {DEEPEST} tables or lists in one another.")


def parse_toml(text: str) -> dict[str, Any]:
    """A TOML text as a table.

    Raises:
        ValueError: it is none, with line and column, or Python cannot hold what it says.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # of whole numbers; Python's own words name a setting of Python's
        raise ValueError("it holds a number of thousands of digits") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_unicode(text: str) -> bool:
    """Whether a text is free of half surrogate pairs, which bytes that are no UTF-8 become."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _inside(key: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"{key}.{name}" if key else str(name), inner) for name, inner in value.items()]
    return [(key, inner) for inner in value] if isinstance(value, list | tuple) else []


def override(table: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    path = key.strip().split(".", DEEPEST)
    if not equals or not all(path):
        raise RecipeError(f"--set {text!r}: expected key=value, such as train.epochs=10.", "")
    if path == ["method"]:
        table["method"] = parse_method(value)
        return
    for step in path[:-1]:
        inner = table.get(step, {})
        table[step] = {"weight": inner} if not isinstance(inner, dict) else dict(inner)
        table = table[step]
    table[path[-1]] = _value(value.strip())


def _value(text: str) -> Any:
    """A TOML value; what is none is taken as a string, so that nobody has to quote twice."""
    try:
        table = parse_toml(f"x = {text}")
    except ValueError:
        return text
    return table["x"] if len(table) == 1 else text  # lines behind it would be lost


def term_table(name: str, value: Any) -> dict[str, Any]:
    """A term's table; a bare number (or a ramp of two) is its weight."""
    table = dict(value) if isinstance(value, Mapping) else {"weight": value}
    weight = table.setdefault("weight", 1.0)
    ends = weight if isinstance(weight, list) else [weight]
    if len(ends) > 2 or not ends or not all(_fits(end, float) for end in ends):
        raise RecipeError(
            f"method.{name}.weight is {weight!r}; expected a number, or two for a ramp.",
            f"method.{name}.weight",
        )
    over = table.get("over", [])
    if not isinstance(over, list) or not all(isinstance(inner, str) for inner in over):
        raise RecipeError(
            f"method.{name}.over is {over!r}; expected a list of the terms it changes.",
            f"method.{name}.over",
        )
    table["weight"] = [float(end) for end in ends] if len(ends) > 1 else float(ends[0])
    return table


def freeze(kind: type[T], table: Any, prefix: str = "") -> T:
    """Make a frozen dataclass of ``kind`` from a nested table, refusing what it does not know."""
    if not isinstance(table, Mapping):
        raise RecipeError(f"{prefix} is {table!r}; expected a table [{prefix}].", prefix)
    types = get_type_hints(kind)
    made: dict[str, Any] = {}
    for name, value in table.items():
        key = f"{prefix}.{name}" if prefix else name
        if name not in types:
            raise RecipeError(f"unknown key {key!r}.{hint(name, types, limit=20)}", key)
        make = freeze if is_dataclass(types[name]) else _checked
        made[name] = make(types[name], value, key)
    needed = inspect.signature(kind).parameters.values()
    lacking = [one.name for one in needed if one.default is one.empty and one.name not in made]
    if lacking:
        raise RecipeError(f"{prefix} has no {lacking[0]}, which it needs.", prefix)
    try:
        return kind(**made)
    except RecipeError as error:  # out of range; only here it is known where it stands
        raise RecipeError(f"{prefix}.{error}", f"{prefix}.{error.key}") from error


def _checked(kind: Any, value: Any, key: str) -> Any:
    if kind is float and _fits(value, float):
        return float(value)
    if kind in (int, str, bool) and _fits(value, kind):
        return value
    listed = isinstance(value, list | tuple)
    if listed and (kind == tuple[str, ...] or (kind == tuple[int, int] and len(value) == 2)):
        return tuple(_checked(get_args(kind)[0], v, key) for v in value)
    if get_origin(kind) is Mapping and isinstance(value, Mapping):
        return {name: _plain(inner, f"{key}.{name}") for name, inner in value.items()}
    raise RecipeError(f"{key} is {value!r}; expected {_WANTED.get(kind, 'a table')}.", key)


_WANTED = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    tuple[str, ...]: "a list of texts",
    tuple[int, int]: "two whole numbers",
}


def _plain(value: Any, key: str) -> Any:
    """What JSON and TOML both hold: no dates, no infinities."""
    if isinstance(value, Mapping):
        return {name: _plain(inner, f"{key}.{name}") for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, key) for inner in value]
    if isinstance(value, str | bool) or _fits(value, float):
        return value
    raise RecipeError(f"{key} is {value!r}; expected a number, a text or true or false.", key)


def _fits(value: Any, kind: type) -> bool:
    if kind is float:  # a finite one: TOML knows inf and nan, nothing here does
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and abs(value) <= sys.float_info.max
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def line_of(text: str, key: str) -> int:
    """Line on which a dotted key stands in a TOML text, from 1; 0 if it is not found."""
    section, _, name = key.rpartition(".")
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.split("#")[0].strip()
        if bare.startswith("["):
            current = bare.strip("[] ")
            if current == key:
                return number
        dotted = ".".join(filter(None, [current, bare.split("=")[0].strip()]))
        if "=" in bare and dotted in (key, section, f"{section}.{name}"):
            return number
    return 0
