"""What may be replaced by a report: one of before, and nothing that is somebody's own."""

from __future__ import annotations

import html
import json
import re
from contextlib import suppress
from pathlib import Path

from edgekd.errors import UsageError
from edgekd.report.reading import readable, there
from edgekd.report.words import heading

EXPECTED = "Expected nothing there, or an older report."
REMEDY = "Move it away, or choose another place with edgekd report --output."
MOST = 2**20
"""Bytes of a file's beginning, in which a report says what it is."""

_PAGE = re.compile(
    r'<meta name="generator" content="edgekd [^"]*">\s*<title>(.*?) \u2013 edgekd report</title>',
    re.DOTALL,
)
_DATA = re.compile(
    r'\s*\{\s*"schema_version": *\d+,\s*"edgekd_version": *"[^"]*",'
    r'\s*"title": *("(?:[^"\\]|\\.)*")'
)


def check_place(folder: Path) -> None:
    """Refuse, before the work that is reported, a folder that no report could be written into.

    Raises:
        UsageError: as :func:`check_replaceable`.
    """
    check_replaceable(folder / "report.html", folder / "report.md", folder / "report.json", "")


def check_replaceable(page: Path, summary: Path, data: Path, new: str) -> None:
    """Refuse, before any is written, to put a report's files in the place of other ones.

    Page and data say who made them. The summary, which is for a README, does not: it begins with
    the title that one of them has, or that the new one has.

    Args:
        page: where the HTML goes.
        summary: where the Markdown goes.
        data: where the JSON goes.
        new: the Markdown that is to be written; empty where that is not known yet.

    Raises:
        UsageError: there is something else than a report, or it cannot be read.
    """
    begins = {file: _beginning(file) for file in (page, summary, data)}
    shown, said = _PAGE.search(begins[page] or ""), _DATA.match(begins[data] or "")
    firsts = {_first(new)} - {""}
    if shown:
        firsts.add(_first(heading(html.unescape(shown[1]))))
    if said:
        with suppress(ValueError):  # somebody has changed it
            firsts.add(_first(heading(json.loads(said[1], strict=False))))
    first = _first(begins[summary] or "")
    titled = first in firsts if firsts else first.startswith(heading(""))
    ours = {page: shown, summary: titled, data: said}
    for file, begin in begins.items():
        if begin is not None and not ours[file]:
            raise UsageError(
                f"{file} is no report of edgekd's, and would be lost. {EXPECTED} {REMEDY}"
            )


def _beginning(file: Path) -> str | None:
    """Of what is to be replaced; None where there is nothing."""
    if not there(file, f"{EXPECTED} {REMEDY}"):
        return None
    with readable(file).open("rb") as content:
        return content.read(MOST).decode("utf-8", "replace")


def _first(text: str) -> str:
    return text.partition("\n")[0].rstrip()
