"""Text of a card: user's words made harmless for Markdown, tables, folds, and figures in words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

NOT_STATED = "not stated"
LONGEST = 120
"""Characters of a user's word that are shown."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]#!|~^$@]|:(?=/)|(?<=\bwww)\.)", re.IGNORECASE)
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def plain(text: object, longest: int = LONGEST) -> str:
    """One line of it, without characters that cannot be seen or turn the line around."""
    shown = "".join(
        " " if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Zs") else c
        for c in str(text)
        if unicodedata.category(c) not in ("Cf", "Cs", "Co", "Cn")
    )
    shown = " ".join(shown.split())
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def safe(text: object) -> str:
    """A word as Markdown shows it letter by letter, in a sentence or in a cell of a table."""
    marked = _SPECIAL.sub(r"\\\1", plain(text))
    return re.sub("[&<>]", lambda found: _ENTITIES[found.group()], marked) or "(empty)"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A table of two columns; what has no value is left out."""
    return table(("", ""), [row for row in rows if row[1]])


def fenced(text: str, language: str) -> str:
    """A block shown as it is, whatever ticks are in it."""
    body = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    ticks = max((len(run) for run in re.findall("`+", body)), default=0)
    fence = "`" * max(3, ticks + 1)
    return f"{fence}{language}\n{body.strip()}\n{fence}"


def folded(summary: str, body: str) -> str:
    """A block that opens with a click."""
    return f"<details>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"


def bullets(lines: Iterable[str]) -> str:
    """A list."""
    return "\n".join(f"- {line}" for line in lines)


def share(value: float) -> str:
    """``98.3 %``."""
    return f"{100 * value:.1f} %"


def span(low: float, high: float) -> str:
    """``[96.9, 99.1]``, of shares."""
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def points(value: float, low: float, high: float) -> str:
    """``-0.3 points [-0.9, +0.2]``, of shares."""
    return f"{100 * value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def short(sha256: object) -> str:
    """The first letters of a hash."""
    return re.sub("[^0-9a-f]", "", str(sha256))[:12]


def counted(number: object, thing: str) -> str:
    """``1,234 images``; empty where the number is not known."""
    if not isinstance(number, int):
        return ""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def size(count: object) -> str:
    """``318,014 bytes (0.32 MB)``."""
    return f"{count:,} bytes ({count / 1e6:.3g} MB)" if isinstance(count, int) else ""
