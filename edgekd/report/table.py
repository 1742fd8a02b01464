"""A table, once for the page and for Markdown: what is read, and the number behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgekd.report.text import NONE


@dataclass(frozen=True)
class Cell:
    """What a person reads, the number it was made from, and small print under it."""

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


@dataclass(frozen=True)
class Table:
    """``name`` is its anchor in the page; the first cell of a row is the row's heading."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def table(
    name: str, caption: str, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]
) -> Table | None:
    """The table without the columns that nobody has anything for; None where no row is left."""
    lines = [tuple(row) for row in rows]
    if not lines:
        return None
    kept = [i for i in range(len(columns)) if i == 0 or any(row[i].text != NONE for row in lines)]
    return Table(
        name,
        caption,
        tuple(columns[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in lines),
    )
