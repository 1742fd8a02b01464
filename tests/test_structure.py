"""Structure: our words of JSON Schema mean what they mean to others, at every leaf of a record."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgekd.files import read_json
from edgekd.structure import LONGEST, mismatch, partly, schema_of

RECORD = Path(__file__).parent / "deploy" / "record.json"
VALUES: list[Any] = [None, [], {}, "", -1, 1.5, "x" * 9999, True, [[]], {"a": {}}, 0.5]


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something is in a table; of lists the first two."""
    yield place
    inner: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        inner = enumerate(value[:2])
    for key, each in inner:
        yield from places(each, (*place, key))


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    made = copy.copy(value)
    made[place[0]] = put(made[place[0]], place[1:], new)
    return made


def test_every_leaf_is_judged_as_others_judge_it() -> None:
    whole, record = schema_of("profile"), json.loads(RECORD.read_text())
    schema = partly(whole, "measurement")
    other = jsonschema.Draft202012Validator(json.loads(json.dumps(schema).replace("false", "true")))
    assert mismatch(record, schema) == ""
    refused = tried = 0
    for place in places(record):
        for value in VALUES:
            changed = put(record, place, value)
            found = mismatch(changed, schema)
            assert bool(found) != other.is_valid(changed), (place, value, found)
            assert len(found) < 4 * LONGEST
            refused, tried = refused + bool(found), tried + 1
    assert tried > 1500
    assert refused > tried / 2


@pytest.mark.parametrize(
    ("value", "schema", "message"),
    [
        ({}, {"required": ["a"]}, "it has no a"),
        (True, {"type": "integer"}, "it is True; expected integer"),
        (True, {"type": "number"}, "it is True; expected number"),
        ([1, "x"], {"items": {"type": "integer"}}, "[1] is 'x'; expected integer"),
        (
            {"a": {"b": 0}},
            {"properties": {"a": {"additionalProperties": {"minimum": 1}}}},
            "a.b is",
        ),
        (3, {"anyOf": [{"type": "null"}, {"maximum": 2}]}, "it is 3; expected at most 2"),
        ({"unknown": 1}, {"properties": {}}, ""),
    ],
)
def test_what_is_said(value: Any, schema: dict[str, Any], message: str) -> None:
    assert mismatch(value, schema).startswith(message)
    assert bool(mismatch(value, schema)) == bool(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[NaN]", "NaN, which is no number"),
        ("[-Infinity]", "-Infinity, which is no number"),
        ("[1e999]", "1e999, which is no number"),
        ("9" * 30, "which is no number"),
        ('{"a": 1, "b": 2, "a": 3}', "it says 'a' twice"),
        ("[" * 10**5, "nested too deeply"),
        ("\xff", "codec can't decode"),
        ("", "Expecting value"),
    ],
)
def test_what_is_not_read_as_json(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text, "latin-1")
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json")


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match=r"no plain file|is a folder"):
            read_json(place)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="expected at most"):
        read_json(tmp_path / "large")
