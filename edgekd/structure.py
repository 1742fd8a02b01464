"""Structure: whether what was read of a file is what its schema says, so that none doubts it later.

The schemas are JSON Schema (draft 2020-12); here are the words of it that edgekd's own ones use.
Keys that a schema does not name are let pass: they may be a later edgekd's. An integer is one as
Python reads it: 1e308 would be one for JSON Schema, and nothing that a program can count to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

Schema = Mapping[str, Any]
LONGEST = 60
"""Letters of a value or of a place, in a message."""
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


@cache
def schema_of(name: str) -> Schema:
    """One of edgekd's own: ``manifest``, ``profile``."""
    file = Path(__file__).parent / f"{name}.schema.json"
    found: Schema = json.loads(file.read_text("utf-8"))
    return found


def mismatch(value: Any, schema: Schema) -> str:
    """What is wrong first: ``input.size is 'x'; expected array``; empty where nothing is.

    Args:
        value: as JSON has it.
        schema: what it is to be.
    """
    return next(_wrong(value, schema, schema, ""), "")


def partly(schema: Schema, part: str) -> Schema:
    """A definition of a schema, with nothing that has to be there: what is there has to fit."""
    named = {"$defs": _optional(schema["$defs"])}
    return {**named, "$ref": f"#/$defs/{part}"}


def _optional(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {key: _optional(value) for key, value in schema.items() if key != "required"}
    return [_optional(each) for each in schema] if isinstance(schema, list) else schema


def _wrong(value: Any, schema: Schema, root: Schema, place: str) -> Iterator[str]:
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        yield from _wrong(value, root["$defs"][name], root, place)
    ways = [next(_wrong(value, way, root, place), "") for way in schema.get("anyOf", ())]
    if ways and all(ways):
        yield ways[-1]
    expected = _expected(value, schema)
    if expected:
        yield f"{cut(place) or 'it'} is {shown(value)}; expected {expected}"
        return
    if isinstance(value, dict):
        yield from _in_table(value, schema, root, place)
    if isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            yield from _wrong(each, schema["items"], root, f"{place}[{index}]")


def _in_table(table: Mapping[str, Any], schema: Schema, root: Schema, place: str) -> Iterator[str]:
    for name in schema.get("required", ()):
        if name not in table:
            yield f"{cut(place) or 'it'} has no {name}"
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, value in table.items():
        inner = known.get(name, others)
        if isinstance(inner, Mapping):
            yield from _wrong(value, inner, root, f"{place}.{name}" if place else name)


def _expected(value: Any, schema: Schema) -> str:
    """What a value that is not as it should be should be, by itself."""
    names = schema.get("type", ())
    names = [names] if isinstance(names, str) else names
    if names and not any(_is(value, name) for name in names):
        return " or ".join(names)
    if "const" in schema and (type(value), value) != (type(schema["const"]), schema["const"]):
        return repr(schema["const"])
    if "enum" in schema and value not in schema["enum"]:
        return f"one of {', '.join(map(str, schema['enum']))}"
    for word, fits, called in BOUNDS:
        if word in schema and not fits(value, schema[word]):
            return f"{called} {schema[word]}"
    return ""


def _is(value: Any, name: str) -> bool:
    is_bool = isinstance(value, bool)
    return isinstance(value, TYPES[name]) and (not is_bool or name == "boolean")


def _is_number(value: Any) -> bool:
    return _is(value, "number")


BOUNDS: tuple[tuple[str, Any, str], ...] = (
    ("minimum", lambda v, low: not _is_number(v) or v >= low, "at least"),
    ("maximum", lambda v, high: not _is_number(v) or v <= high, "at most"),
    ("exclusiveMinimum", lambda v, low: not _is_number(v) or v > low, "more than"),
    ("pattern", lambda v, p: not isinstance(v, str) or bool(re.search(p, v)), "the pattern"),
    ("minItems", lambda v, n: not isinstance(v, list) or len(v) >= n, "so many entries:"),
    ("maxItems", lambda v, n: not isinstance(v, list) or len(v) <= n, "so many entries at most:"),
    ("minLength", lambda v, n: not isinstance(v, str) or len(v) >= n, "a length of at least"),
    ("maxLength", lambda v, n: not isinstance(v, str) or len(v) <= n, "a length of at most"),
    ("minProperties", lambda v, n: not isinstance(v, dict) or len(v) >= n, "entries, at least"),
)


def shown(value: Any) -> str:
    """A value in a message, not too long for it."""
    return cut(repr(value))


def cut(text: str, longest: int = LONGEST) -> str:
    """A text in a message, not too long for it."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
