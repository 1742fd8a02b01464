"""A table, once for the page and for Markdown: what is read, and the number behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgekd.report.text import NONE


@dataclass(frozen=True)
class Cell:
    """What a person reads, the number it was made from, and small print under it, by lines."""

    text: str
    value: float | None = None
    note: str = ""
    role: str = ""
    """Whose mark in the pictures stands in front."""


@dataclass(frozen=True)
class Column:
    """A heading, and whether what stands under it is a number, hence aligned to the right."""

    title: str
    numeric: bool = True
    note: str = ""
    """Small print under the heading."""


@dataclass(frozen=True)
class Table:
    """``name`` is its anchor in the page; the first cell of a row is the row's heading."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def lines(*parts: str) -> str:
    """Small print of several lines; what is empty is left out."""
    return "\n".join(part for part in parts if part and part != NONE)


def table(
    name: str, caption: str, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]
) -> Table | None:
    """The table without the columns that nobody has anything for; None where no row is left."""
    found = [tuple(row) for row in rows]
    if not found:
        return None
    kept = [i for i in range(len(columns)) if i == 0 or any(row[i].text != NONE for row in found)]
    return Table(
        name,
        caption,
        tuple(columns[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in found),
    )
