"""A program that is listened to line by line, and ended when its time is up or it falls silent."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LOOK_S = 0.5
"""A silence is told so often to whoever listens, who may want to end it."""
BEAT_S = 5.0
"""How often a program's standard input gets an empty line: whoever wrote it is still there."""
MOST_LINE = 2**25
"""Bytes of a line; the longest one has five numbers for each of :data:`edgekd.agent.race.MOST_RUNS`
runs, which take some 50 bytes. The answers of some models to 50,000 images take far less."""
MOST_LINES, MOST_SAID, MOST_ERR = 500_000, 2**28, 2**24
"""Lines and bytes of a program's standard output, and bytes of its standard error."""
KEPT, KEPT_ERR = 2**20, 2**16
"""Bytes at their ends that are kept."""


class FloodError(Exception):
    """A program says more than anybody could want."""


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it said last: :data:`KEPT` bytes of it, as text."""

    out: str
    err: str
    code: int
    late: bool
    """Whether it was ended because its time was up."""
    silent: bool = False
    """Whether it was ended because it said nothing for too long."""
    flooded: bool = False
    """Whether it was ended because it said too much."""


def listen(
    argv: Sequence[str],
    timeout: float,
    on_line: Callable[[str], None] | None = None,
    folder: Path | None = None,
    silence: float = float("inf"),
) -> Ended:
    """Run a program, its standard input held open: what it starts can end when this process does.

    It is heard to its own end; what it leaves behind may hold its standard output open for ever.

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
        with process:
            watch, said, flooded = _Watch(process, timeout, silence), _Tail(), False
            try:
                for line in _lines(process, stderr.fileno()):
                    if line:
                        watch.heard()
                        said.add(line)
                    if on_line is not None:
                        on_line(line)
                    if watch.gives_up():
                        break
                else:
                    _wait(process, stderr.fileno(), watch)
            except FloodError:
                flooded = True
            finally:
                process.kill()
                code = process.wait()
        return Ended(said.text(), last_words(stderr), code, watch.late, watch.silent, flooded)


def carry(
    argv: Sequence[str],
    source: IO[bytes] | None,
    target: IO[bytes] | None,
    timeout: float,
    most: int = MOST_SAID,
) -> Ended:
    """Run a program with files for its standard input and output.

    Args:
        argv: program and arguments.
        source: what it reads, if anything.
        target: where its output goes, if anywhere.
        timeout: seconds after which it is ended.
        most: bytes of output after which it is ended.

    Raises:
        OSError: it could not be started.
    """
    until, late, flooded = time.monotonic() + timeout, False, False
    files = [subprocess.DEVNULL if file is None else file for file in (source, target)]
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(argv, stdin=files[0], stdout=files[1], stderr=stderr) as process,
    ):
        try:
            while process.returncode is None and not late:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_S)
                late = process.returncode is None and time.monotonic() >= until
                check_size(stderr.fileno(), MOST_ERR)
                if target is not None:
                    check_size(target.fileno(), most)
        except FloodError:
            flooded = True
        finally:
            process.kill()
        return Ended("", last_words(stderr), process.wait(), late, flooded=flooded)


def last_words(file: IO[bytes]) -> str:
    """How a file ends that a program wrote into."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - KEPT_ERR))
    return file.read().decode("utf-8", errors="replace").strip()


def _lines(process: subprocess.Popen[bytes], stderr: int) -> Iterator[str]:
    """Each line as it comes, and an empty text for each while without one."""
    assert process.stdout is not None
    pipe, rest, count, size = process.stdout.fileno(), bytearray(), 0, 0
    while True:
        check_size(stderr, MOST_ERR)
        over = process.poll() is not None  # asked first: all it said is in the pipe by then
        if not select.select([pipe], [], [], 0 if over else LOOK_S)[0]:
            if over:
                break
            yield ""
            continue
        came = os.read(pipe, 2**16)
        rest += came
        count, size = count + came.count(b"\n"), size + len(came)
        if count > MOST_LINES or size > MOST_SAID or len(rest) > MOST_LINE:
            raise FloodError
        if b"\n" in came:
            *whole, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            yield from (f"{_decoded(line)}\n" for line in whole)
        if not came:
            break
    if rest:
        yield _decoded(bytes(rest))


def _wait(process: subprocess.Popen[bytes], stderr: int, watch: _Watch) -> None:
    """For a program that has closed its standard output."""
    while not watch.gives_up():
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_S)
            return
        check_size(stderr, MOST_ERR)


def check_size(file: int, most: int) -> None:
    """See that a file that a program writes does not grow without an end.

    Raises:
        FloodError: it has more bytes.
    """
    if os.fstat(file).st_size > most:
        raise FloodError


class _Tail:
    """The end of what was said."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._size = 0

    def add(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line)
        while self._size > KEPT and len(self._lines) > 1:
            self._size -= len(self._lines.popleft())

    def text(self) -> str:
        return "".join(self._lines)[-KEPT:]


def _decoded(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", errors="replace")


class _Watch:
    """Gives a program signs of life, and gives it up when it gives none or is late.

    It has no thread of its own: where memory is short, Python may wait for one to start for ever.
    """

    def __init__(self, process: subprocess.Popen[bytes], timeout: float, silence: float) -> None:
        self._process, self._silence = process, silence
        self._last = self._beaten = time.monotonic()
        self._until = self._last + timeout
        self.late = self.silent = False

    def heard(self) -> None:
        self._last = time.monotonic()

    def gives_up(self) -> bool:
        """Whether its time is up; asked at least every :data:`LOOK_S`."""
        now = time.monotonic()
        self.late = now >= self._until
        self.silent = not self.late and now >= self._last + self._silence
        if now >= self._beaten + BEAT_S:
            self._beaten = now
            self._beat()
        return self.late or self.silent

    def _beat(self) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):  # it has closed its side, or has ended
                self._process.stdin.write(b"\n")
