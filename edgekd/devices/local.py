"""This machine: the agent in a process of its own, in a private folder."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edgekd.devices._listening import listen
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
        try:
            ended = listen(argv, timeout, on_line, self.folder)
        except OSError as error:
            raise DeviceError(
                f"{argv[0]} cannot be run on {self.name}: {error.strerror}. "
                "Check the path of the Python in the device's profile."
            ) from error
        if ended.late:
            raise DeviceError(
                f"{argv[0]} was still running on {self.name} after {timeout:g} s and was ended. "
                "Allow more time, or give it less to do."
            )
        if ended.code != 0:
            raise DeviceError(
                f"{argv[0]} ended with exit code {ended.code} on {self.name}. "
                f"It said: {ended.err[-800:] or 'nothing'}"
            )
        return ended.out

    def pull(self, remote: str, local: Path) -> None:
        source = self._inside(remote)
        if not source.is_file():
            raise DeviceError(f"there is no {remote} on {self.name} to fetch.")
        shutil.copyfile(source, local)

    def remove(self, remotes: Sequence[str]) -> None:
        for remote in remotes:
            path = self._inside(remote)
            path.unlink(missing_ok=True)
            if path.parent != self.folder.resolve():
                with suppress(OSError):  # it holds something else, or is not there
                    path.parent.rmdir()

    def _inside(self, remote: str) -> Path:
        path = (self.folder / remote).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise DeviceError(f"{remote} lies outside of the folder of {self.name}.")
        return path
