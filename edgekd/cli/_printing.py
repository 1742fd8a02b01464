"""Printing: the one way to the terminal, on which nothing of others' text is obeyed.

What files, classes and models are called, and what a device says, is shown letter by letter: no
control characters, no marks that turn a line around. So do the tables of :mod:`edgekd.cli._tables`,
and the bars of :mod:`edgekd.cli._screen`.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import click

from edgekd.plain import one_screen, plain


def echo(text: object, *, err: bool = False) -> None:
    """A line, or several, to standard output or standard error."""
    click.echo(plain(str(text)), err=err)


def print_json(value: Any) -> None:
    """To standard output, for another program."""
    click.echo(json.dumps(value, indent=1, default=str).replace("\x7f", "\\u007f"))


def wrong_usage(error: click.ClickException) -> str:
    """What click says of a command line: in one screen, but for the help itself."""
    told = io.StringIO()
    error.show(told)
    said = told.getvalue().rstrip("\n").expandtabs(4)
    return said if isinstance(error, click.exceptions.NoArgsIsHelpError) else one_screen(said)


def spell_out() -> None:
    """Have what a stream's encoding lacks spelt out, rather than end in an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
