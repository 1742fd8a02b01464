"""Whatever bytes come, each reader reads them or says in words what is wrong with them."""

from __future__ import annotations

import json
import tempfile
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.boards import Board
from edgekd.recipe import Recipe
from tests.properties.readers import HERE, LINES, READERS
from tests.properties.spoiling import JUNK, respelled, spoiled, toml

FOUND = sorted(path for path in (HERE / "found").glob("*/*") if path.parent.name in READERS)
DEEP = 100_000
HOSTILE = {
    "nothing": b"",
    "a zero": b"\0",
    "no text": b"\xff\xfe\xfa",
    "a mark first": b"\xef\xbb\xbf{}",
    "two bytes a character": "{}".encode("utf-16"),
    "deep lists": b"[" * DEEP,
    "deep tables": b'{"a":' * DEEP,
    "deep lists in TOML": b"a = " + b"[" * DEEP,
    "deep tables in TOML": b"a = " + b"{a = " * DEEP,
    "deep keys": b"a." * 2000 + b"a = 1",
    "a long number": b"1" * DEEP,
    "a long number in TOML": b"a = " + b"1" * DEEP,
    "a long number in a recipe": b"[train]\nepochs = 0x" + b"f" * DEEP,
    "a long number in an override": b"train.epochs=" + b"9" * DEEP,
    "a long line": b"x" * 1_000_000,
    "many lines": b"{}\n" * DEEP,
    "spaces": b"p95<=" + b" " * DEEP + b"1 1",
    "letters": b"p95<=" + b"a" * DEEP + b"!",
    "many terms": b"method=" + b"+a" * DEEP,
    "many dimensions": b"\x3a\xff\xff\xff\x7f" + b"\x2a\xff\xff\xff\x7f" + b"\x08\x7f" * DEEP,
    "duplicate keys": b'{"schema_version": 1, "schema_version": 2}',
}


def tried(name: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder, "inner")
        inner.mkdir()
        READERS[name].read(data, inner)


@pytest.mark.parametrize("name", READERS)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    tried(name, data)


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_what_is_nearly_right_is_read_or_refused(name: str, data: st.DataObject) -> None:
    tried(name, data.draw(spoiled(READERS[name].seeds, READERS[name].words)))


@pytest.mark.parametrize("name", ["manifest", "job"])
@given(data=st.data())
def test_a_value_of_another_kind_is_read_or_refused(name: str, data: st.DataObject) -> None:
    document = json.loads(READERS[name].seeds[0])
    tried(name, data.draw(respelled(document)))


@given(st.lists(st.sampled_from(LINES).flatmap(respelled), max_size=4))
def test_an_agent_that_says_something_else_is_heard_or_refused(lines: list[bytes]) -> None:
    tried("protocol", b"\n".join(lines))


def sections(kind: Any) -> dict[str, list[str]]:
    """The tables of a file, and the keys of each."""
    types = get_type_hints(kind)
    own = [one.name for one in fields(kind)]
    tables = {
        name: [one.name for one in fields(types[name])] for name in own if is_dataclass(types[name])
    }
    return {"": own, **tables}


@st.composite
def files(draw: st.DrawFn, kind: Any) -> bytes:
    """A TOML file with the right keys and whatever behind them."""
    lines = []
    for section, names in sections(kind).items():
        chosen = draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
        lines += [f"[{section}]"] if section and chosen else []
        lines += [f"{name} = {toml(draw(JUNK))}" for name in chosen]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(("name", "kind"), [("recipe", Recipe), ("board", Board)])
@given(data=st.data())
def test_a_key_with_whatever_behind_it_is_read_or_refused(
    name: str, kind: Any, data: st.DataObject
) -> None:
    tried(name, data.draw(files(kind)))


@pytest.mark.timeout(30)
@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("name", READERS)
def test_what_is_made_to_hurt_is_refused_soon(name: str, what: str) -> None:
    tried(name, HOSTILE[what])


@pytest.mark.parametrize("name", READERS)
def test_every_first_seed_is_read_to_its_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is nearly right would be far from it."""
    monkeypatch.setattr("tests.properties.readers._in_words", pytest.fail)
    tried(name, READERS[name].seeds[0])


@pytest.mark.timeout(30)
@pytest.mark.parametrize("file", FOUND, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_what_the_fuzzer_found_stays_mended(file: Path) -> None:
    tried(file.parent.name, file.read_bytes())
