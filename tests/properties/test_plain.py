"""Whatever text comes, a terminal is told nothing but letters and ends of lines."""

from __future__ import annotations

import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from edgekd.plain import one_line, plain

TEXT = st.text(st.characters(categories=None))  # lone surrogates, too
OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
JOINERS = "\u200c\u200d"


def obeyed(text: str) -> set[str]:
    """Characters that a terminal would act upon, or hide."""
    return {c for c in text if unicodedata.category(c) in OBEYED and c not in JOINERS}


@given(TEXT)
@example("\x1b]52;c;aGk=\x07\x9b2J\u202egnp.exe\r\x7f\u2028")
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    shown = plain(text)
    assert obeyed(shown) <= {"\n"}
    assert shown.count("\n") == text.count("\n")
    assert plain(shown) == shown
    shown.encode("utf-8")


@given(TEXT)
def test_what_is_harmless_is_shown_as_it_is(text: str) -> None:
    if not obeyed(text) - {"\n"}:
        assert plain(text) == text


@given(TEXT, st.integers(0, 30))
def test_a_line_stays_one_and_is_cut(text: str, longest: int) -> None:
    shown = one_line(text, longest)
    assert obeyed(shown) == set()
    assert not longest or len(shown) <= longest
