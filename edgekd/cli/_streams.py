"""Streams: what is closed, full or gone of the standard ones harms nothing that is being made."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


def open_closed() -> None:
    """Open what was closed of the three: the next file would be given its number, and its text."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            way = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, way, encoding="utf-8"))  # noqa: PTH123, SIM115


def speak() -> None:
    """Until :func:`end_streams`, standard output says in a sentence why it cannot be written."""
    if not isinstance(sys.stdout, _Speaking):
        sys.stdout = cast("TextIO", _Speaking(sys.stdout))


def have_width() -> None:
    """Forget a width of no columns, as of a terminal that does not know its own: nothing fits."""
    if not os.environ.get("COLUMNS", "1").strip("0"):
        del os.environ["COLUMNS"]


def end_streams(code: int) -> int:
    """Write what was printed, as far as that goes, so that Python does not fail at it at its end.

    Returns:
        The exit code; where a result could not be written, it is none of success.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            code = code or int(stream is sys.stdout)
    if isinstance(sys.stdout, _Speaking):
        sys.stdout = sys.stdout.stream
    return code


class _Around:
    """A stream, but for what is said otherwise."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Speaking(_Around):
    """Standard output that says what it is that cannot be written."""

    def write(self, text: str) -> int:
        """Most of it is kept until there is more."""
        with _in_words():
            return self.stream.write(text)

    def flush(self) -> None:
        """Here a disk turns out to be full."""
        with _in_words():
            self.stream.flush()


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # whoever read it has had enough, and is told nothing
        raise
    except OSError as error:
        raise OSError(
            f"cannot write to the standard output: {error.strerror or error}. Send it to another "
            "place, or free some space."
        ) from error


class _Enduring(_Around):
    """A stream whose writer goes on where nothing can be written any more."""

    def write(self, text: str) -> int:
        """Say it if that is possible."""
        with suppress(OSError):
            return self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As far as that is possible."""
        with suppress(OSError):
            self.stream.flush()


def enduring(stream: TextIO) -> TextIO:
    """The stream, for what tells how far it is: that must not end what it tells of."""
    return cast("TextIO", _Enduring(stream))
