"""A message fits a screen, whatever it quotes, and keeps what was found and what to do."""

from __future__ import annotations

import pytest

from edgekd.plain import one_screen


@pytest.mark.parametrize("quoted", ["x" * 100_000, "x " * 100_000, "x\n" * 100_000, "\x1b" * 9000])
@pytest.mark.parametrize("lines", [7, 12])
def test_a_message_fits_a_screen(quoted: str, lines: int) -> None:
    shown = one_screen(f"there is no model {quoted!s}. Correct the name.", lines)
    assert sum(-(-len(line) // 80) or 1 for line in shown.splitlines()) <= lines
    assert shown.startswith("there is no model ")
    assert shown.endswith("Correct the name.")
    assert " ... " in shown


def test_what_fits_is_left_as_it_is() -> None:
    text = "one line\n\n  and another\n" + "x" * 700
    assert one_screen(text) == text
