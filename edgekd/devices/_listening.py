"""A program that is listened to line by line, and ended when its time is up."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it said."""

    out: str
    err: str
    code: int
    late: bool
    """Whether it was ended because its time was up."""


def listen(
    argv: Sequence[str],
    timeout: float,
    on_line: Callable[[str], None] | None = None,
    folder: Path | None = None,
) -> Ended:
    """Run a program, its standard input held open: what it starts can end when this process does.

    Args:
        argv: program and arguments.
        timeout: seconds after which it is ended.
        on_line: called with each line of standard output as it comes.
        folder: where it runs.

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
            encoding="utf-8",
            errors="replace",
        )
        late = threading.Event()
        with process:
            timer = threading.Timer(timeout, _end, [process, late])
            timer.start()
            try:
                lines = []
                for line in process.stdout or ():
                    lines.append(line)
                    if on_line is not None:
                        on_line(line)
                code = process.wait()
            finally:
                timer.cancel()
                process.kill()
        stderr.seek(0)
        said = stderr.read().decode("utf-8", errors="replace").strip()
        return Ended("".join(lines), said, code, late.is_set())


def _end(process: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    process.kill()
