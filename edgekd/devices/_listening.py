"""A program that is listened to line by line, and ended when its time is up or it falls silent."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOOK_S = 0.5
"""A silence is told so often to whoever listens, who may want to end it."""
BEAT_S = 5.0
"""How often a program's standard input gets an empty line: whoever wrote it is still there."""


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it said."""

    out: str
    err: str
    code: int
    late: bool
    """Whether it was ended because its time was up."""
    silent: bool = False
    """Whether it was ended because it said nothing for too long."""


def listen(
    argv: Sequence[str],
    timeout: float,
    on_line: Callable[[str], None] | None = None,
    folder: Path | None = None,
    silence: float = float("inf"),
) -> Ended:
    """Run a program, its standard input held open: what it starts can end when this process does.

    Args:
        argv: program and arguments.
        timeout: seconds after which it is ended.
        on_line: called with each line of standard output as it comes; with an empty text, which is
            no line, where none comes.
        folder: where it runs.
        silence: seconds without a line after which it is ended.

    Raises:
        OSError: it could not be started.
    """
    with tempfile.TemporaryFile() as stderr:  # a pipe would be held open by what stays behind
        process = subprocess.Popen(
            argv,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,  # else what its closed side did not take is tried again when it is left
        )
        watch = _Watch(process, timeout, silence)
        with process:
            watch.start()
            try:
                lines = []
                for line in _lines(process):
                    if line:
                        watch.heard()
                        lines.append(line)
                    if on_line is not None:
                        on_line(line)
                code = process.wait()
            finally:
                watch.over.set()
                process.kill()
                watch.join()  # it may be writing to what is closed next
        stderr.seek(0)
        said = stderr.read().decode("utf-8", errors="replace").strip()
        return Ended("".join(lines), said, code, watch.late, watch.silent)


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Each line as it comes, and an empty text for each while without one."""
    assert process.stdout is not None
    pipe, rest = process.stdout.fileno(), b""
    while True:
        if not select.select([pipe], [], [], LOOK_S)[0]:
            yield ""
            continue
        came = os.read(pipe, 2**16)
        *whole, rest = (rest + came).split(b"\n")
        yield from (f"{_decoded(line)}\n" for line in whole)
        if not came:
            break
    if rest:
        yield _decoded(rest)


def _decoded(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", errors="replace")


class _Watch(threading.Thread):
    """Gives a program signs of life, and ends it when it gives none or is late."""

    def __init__(self, process: subprocess.Popen[bytes], timeout: float, silence: float) -> None:
        super().__init__(daemon=True)
        self._process, self._silence = process, silence
        self._until = time.monotonic() + timeout
        self._last = time.monotonic()
        self.over = threading.Event()
        self.late = self.silent = False

    def heard(self) -> None:
        self._last = time.monotonic()

    def run(self) -> None:
        while True:
            left = min(self._until, self._last + self._silence) - time.monotonic()
            if self.over.wait(max(0.0, min(left, BEAT_S))):
                return
            self.late = time.monotonic() >= self._until
            self.silent = not self.late and time.monotonic() >= self._last + self._silence
            if self.late or self.silent:
                self._process.kill()
                return
            self._beat()

    def _beat(self) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):  # it has closed its side, or has ended
                self._process.stdin.write(b"\n")
