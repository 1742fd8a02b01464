"""Kinds of values: what an answer has to be made of, and where it is not."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Shape = Any
"""A :class:`Kind`; a table of them by key, which may hold more keys; a list of one, for any number
of such; a tuple, for exactly these; :class:`Maybe`, :class:`Each`, :class:`OneOf`."""
MOST = 2.0**63
"""No number that is reckoned with is further from nought: times are in ns at the finest, sizes in
bytes."""
FARTHEST = 3.5e38
"""No other one is, such as a model's own answer: float32 ends there."""
DEEPEST = 32
LONGEST = 4096
"""Characters of a text."""


@dataclass(frozen=True)
class Kind:
    """A value that is no container."""

    words: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Maybe:
    """A shape, or null."""

    of: Shape


@dataclass(frozen=True)
class Each:
    """A table of any keys, whose values all have a shape."""

    of: Shape


@dataclass(frozen=True)
class OneOf:
    """One of some words."""

    names: tuple[str, ...]


def is_number(value: Any) -> bool:
    """Whether it is one that can be reckoned with: finite, and not beyond all measure."""
    return type(value) in (int, float) and abs(value) <= MOST


def _is_float32(value: Any) -> bool:
    return is_number(value) or (type(value) is float and abs(value) <= FARTHEST)


def _is_whole(value: Any) -> bool:
    return type(value) is int and is_number(value)


ANY = Kind("anything", lambda value: True)
TEXT = Kind(f"a text of at most {LONGEST:,} characters", lambda v: _is_text(v, LONGEST))
LONG = Kind("a text", lambda value: isinstance(value, str))
TRUTH = Kind("true or false", lambda value: isinstance(value, bool))
NUMBER = Kind("a finite number", is_number)
LOGIT = Kind("a finite number of float32", _is_float32)
TIME = Kind("a number more than 0", lambda value: is_number(value) and value >= 1e-9)
AMOUNT = Kind("a number of at least 0", lambda value: is_number(value) and value >= 0)
WHOLE = Kind("a whole number", _is_whole)
COUNT = Kind("a whole number of at least 0", lambda value: _is_whole(value) and value >= 0)
SOME = Kind("a whole number of at least 1", lambda value: _is_whole(value) and value >= 1)


def _is_text(value: Any, longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest


def fault(value: Any, shape: Shape, at: str) -> str:
    """What is wrong with a value, in words; nothing where it has the shape.

    Args:
        value: as JSON gives it.
        shape: what it should be.
        at: what it is called.
    """
    if isinstance(shape, Kind):
        return "" if shape.fits(value) else _refused(at, value, shape.words)
    if isinstance(shape, Maybe):
        return "" if value is None else fault(value, shape.of, at)
    if isinstance(shape, OneOf):
        known = isinstance(value, str) and value in shape.names
        return "" if known else _refused(at, value, f"one of {', '.join(shape.names)}")
    if isinstance(shape, list | tuple):
        return _in_list(value, shape, at)
    return _in_table(value, shape, at)


def _in_list(value: Any, shape: list[Shape] | tuple[Shape, ...], at: str) -> str:
    if not isinstance(value, list):
        return _refused(at, value, "a list")
    if isinstance(shape, tuple) and len(value) != len(shape):
        return f"{at} has {len(value):,} entries; expected {len(shape)}"
    inner = shape if isinstance(shape, tuple) else [shape[0]] * len(value)
    pairs = enumerate(zip(value, inner, strict=True))
    return next(filter(None, (fault(v, s, f"{at}[{n}]") for n, (v, s) in pairs)), "")


def _in_table(value: Any, shape: Each | Mapping[str, Shape], at: str) -> str:
    if not isinstance(value, dict):
        return _refused(at, value, "a table")
    if isinstance(shape, Each):
        found = (fault(v, shape.of, f"{at}.{reprlib.repr(key)}") for key, v in value.items())
        return next(filter(None, found), "")
    missing = [key for key in shape if key not in value]
    if missing:
        return f"{at} has no {missing[0]}"
    return next(filter(None, (fault(value[k], s, f"{at}.{k}") for k, s in shape.items())), "")


def _refused(at: str, value: Any, wanted: str) -> str:
    return f"{at} is {reprlib.repr(value)}; expected {wanted}"


def unsound(value: Any) -> str:
    """What of a JSON value no reader could cope with, in words: depth, numbers, broken text.

    Nothing where it is sound.
    """
    rest = [(value, 0)]
    while rest:
        one, depth = rest.pop()
        if isinstance(one, dict | list):
            if depth >= DEEPEST:
                return f"something nested more than {DEEPEST} deep"
            inner = [*one.keys(), *one.values()] if isinstance(one, dict) else one
            rest += [(each, depth + 1) for each in inner]
        elif isinstance(one, str):
            if not one.isascii() and one.encode("utf-8", "ignore").decode("utf-8") != one:
                return "a text that is no Unicode"
        elif one is not None and not isinstance(one, bool) and not _is_float32(one):
            return f"the number {reprlib.repr(one)}"
    return ""
