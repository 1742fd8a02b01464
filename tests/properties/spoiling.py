"""Strategies for what is nearly right: seeds with a few bytes changed, documents with one leaf."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

TEXT = st.text(max_size=20)
LONGEST = 10**4000
"""A number of so many digits Python still writes; longer ones it can only be given in hex."""
HUGE = st.sampled_from([10**30, -(10**400), 2**64, LONGEST, 1e308, -1e-320])
NOWHERE = st.sampled_from([float("nan"), float("inf"), -float("inf")])
NAMES = st.sampled_from(
    [
        "",
        ".",
        "..",
        "../outside",
        "/etc/passwd",
        "a/b",
        "a\0b",
        "-rf",
        "$(id)",
        "x" * 300,
        "\x1b[2J",
    ]
)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | HUGE | NOWHERE | NAMES
JUNK = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
"""What JSON can hold as Python writes it, NaN included."""


def spoiled(seeds: Sequence[bytes], words: Sequence[str] = ()) -> st.SearchStrategy[bytes]:
    """A seed with up to four places changed."""
    piece = st.binary(max_size=8)
    if words:
        piece |= st.sampled_from([word.encode() for word in words])
    edit = st.tuples(st.floats(0, 1), st.integers(0, 12), piece)
    return st.builds(_edited, st.sampled_from(seeds), st.lists(edit, min_size=1, max_size=4))


def _edited(seed: bytes, edits: Sequence[tuple[float, int, bytes]]) -> bytes:
    for share, length, piece in edits:
        at = round(share * len(seed))
        seed = seed[:at] + piece + seed[at + length :]
    return seed


def respelled(document: Any) -> st.SearchStrategy[bytes]:
    """A document of JSON with one of its values replaced by another, or taken away."""
    places = list(_places(document))
    gone = st.just(...)
    return st.builds(
        lambda place, value: _dumped(_with(document, place, value)),
        st.sampled_from(places),
        JUNK | gone,
    )


def _places(document: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of the document itself, and that of every value in it."""
    yield above
    items: Any = ()
    if isinstance(document, dict):
        items = document.items()
    elif isinstance(document, list):
        items = enumerate(document)
    for key, value in items:
        yield from _places(value, (*above, key))


def _with(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copied = document.copy()
    copied[place[0]] = _with(document[place[0]], place[1:], value)
    if copied[place[0]] is ...:
        del copied[place[0]]
    return copied


def _dumped(document: Any) -> bytes:
    return json.dumps(None if document is ... else document).encode()


def toml(value: Any) -> str:
    """A value of :data:`JUNK` as TOML, which has no null and writes infinities its own way."""
    if isinstance(value, bool) or value is None:
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < LONGEST else f"0x{'f' * 5000}"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return f"{{ {', '.join(f'{toml(str(key))} = {toml(one)}' for key, one in value.items())} }}"
