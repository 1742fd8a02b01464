"""Text of others, harmless for a terminal: what a device says, what files and classes are called.

A terminal obeys some characters, and shows others nowhere or in another order: they are spelt out.
"""

from __future__ import annotations

import unicodedata

JOINERS = frozenset("\u200c\u200d")
"""Invisible, but parts of words in many scripts, and of emoji."""


def plain(text: str) -> str:
    r"""The text with what a terminal would obey or hide spelt out, as in ``\x1b[2J``; lines stay.

    Half a surrogate pair, which is what a byte that is no UTF-8 becomes, is spelt out as well: no
    terminal could be given it.
    """
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or _harmless(c) else _spelt(c) for c in text)


def one_screen(text: str, lines: int = 12) -> str:
    """:func:`plain`, and without its middle where it would take more lines of 80 characters.

    A message begins with what was found, which may be anything, and ends with what to do.
    """
    shown = plain(text)
    if sum(-(-len(line) // 80) or 1 for line in shown.splitlines()) <= lines:
        return shown
    flat, most = " ".join(shown.split()), 80 * (lines - 1)
    return flat if len(flat) <= most else f"{flat[: most // 2]} ... {flat[-most // 3 :]}"


def one_line(text: str, longest: int = 0) -> str:
    """:func:`plain` in one line, cut to so many characters where a number is given."""
    shown = plain(" ".join(text.splitlines()))
    return shown if not longest or len(shown) <= longest else f"{shown[: longest - 1]}…"


def _harmless(char: str) -> bool:
    return char.isprintable() or char in JOINERS or unicodedata.category(char) in _SHOWN


_SHOWN = ("Zs", "Cn", "Co")
"""Spaces of all widths, and what only newer systems or fonts of one's own know."""


def _spelt(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
