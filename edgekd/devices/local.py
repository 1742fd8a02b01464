"""This machine: the agent in a process of its own, in a private folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from edgekd.errors import DeviceError

__all__ = ["Local"]


def _private_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="edgekd-device-"))


@dataclass(frozen=True)
class Local:
    """The machine edgekd itself runs on; its folder goes when the object does."""

    name: str = "local"
    python: str = sys.executable
    folder: Path = field(default_factory=_private_folder)

    def __post_init__(self) -> None:
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def push(self, local: Path, remote: str) -> None:
        if not local.is_file():
            raise DeviceError(f"there is no file {local} to send to {self.name}.")
        target = self._inside(remote)
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(local.resolve(), target)  # nothing is written to it, so a copy is a waste
        except OSError:
            shutil.copyfile(local, target)

    def run(
        self,
        argv: Sequence[str],
        timeout: float,
        on_line: Callable[[str], None] | None = None,
    ) -> str:
        with tempfile.TemporaryFile() as stderr:
            lines, code, late = self._listen(argv, timeout, on_line, stderr)
            stderr.seek(0)
            said = stderr.read().decode("utf-8", errors="replace").strip()
        if late:
            raise DeviceError(
                f"{argv[0]} was still running on {self.name} after {timeout:g} s and was ended. "
                "Allow more time, or give it less to do."
            )
        if code != 0:
            raise DeviceError(
                f"{argv[0]} ended with exit code {code} on {self.name}. "
                f"It said: {said[-800:] or 'nothing'}"
            )
        return "".join(lines)

    def pull(self, remote: str, local: Path) -> None:
        source = self._inside(remote)
        if not source.is_file():
            raise DeviceError(f"there is no {remote} on {self.name} to fetch.")
        shutil.copyfile(source, local)

    def _inside(self, remote: str) -> Path:
        path = (self.folder / remote).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise DeviceError(f"{remote} lies outside of the folder of {self.name}.")
        return path

    def _listen(
        self,
        argv: Sequence[str],
        timeout: float,
        on_line: Callable[[str], None] | None,
        stderr: IO[bytes],
    ) -> tuple[list[str], int, bool]:
        """Lines of standard output, exit code, and whether it had to be ended."""
        try:
            process = subprocess.Popen(
                argv,
                cwd=self.folder,
                stdin=subprocess.PIPE,  # held open: the agent ends when this process does
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise DeviceError(
                f"{argv[0]} cannot be run on {self.name}: {error.strerror}. "
                "Check the path of the Python in the device's profile."
            ) from error
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
                return lines, process.wait(), late.is_set()
            finally:
                timer.cancel()
                process.kill()


def _end(process: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    process.kill()
