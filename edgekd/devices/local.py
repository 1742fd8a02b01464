"""This machine: the agent in a process of its own, in a private folder."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from edgekd.agent import keeper, locking, turns
from edgekd.agent.failures import AgentError
from edgekd.agent.furnish import ASIDE
from edgekd.devices._listening import listen
from edgekd.devices._refusals import colon, flooded, others, shared, unwritable
from edgekd.devices._scripts import MARK
from edgekd.errors import DeviceError, LinkError, UsageError
from edgekd.files import flush
from edgekd.scratch import held_temporary

__all__ = ["Local"]

_SENT = r"[0-9a-f]{16}(-agent\.zip)?|run-[0-9a-f]{16}(-job\.json)?"
OURS = re.compile(
    rf"({_SENT})(\.[0-9a-f]{{8}}\.part)?|{re.escape(ASIDE)}.+|{re.escape(turns.LOCK)}"
)
"""The names of what edgekd puts into a folder, but for environments."""
VENV = re.compile("venv-[0-9a-f]{12}")


def _end(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


class Local:
    """The machine edgekd itself runs on.

    It is private unless a folder is given, so that nobody is waited for there (``--wait``).

    Args:
        address: ``local``.
        name: what the records call it; the address unless given.
        python: the Python that has numpy and the runtime; this one unless given.
        folder: where files go; unless given, a private one that goes when the object does.

    Raises:
        UsageError: the folder is the home folder itself, or holds it; or it has a colon in it.
    """

    def __init__(
        self, address: str = "local", name: str = "", python: str = "", folder: str = ""
    ) -> None:
        self.name = name or address
        self.alone_s = 10.0  # this link is never cut: who is gone stays gone
        self.python = python or sys.executable
        self._private = not folder
        if ":" in folder:
            raise UsageError(colon(folder))
        lock = None
        if folder:
            self.folder = Path.home() / Path(folder).expanduser()
        else:
            self.folder, lock = held_temporary()
        if Path.home().resolve().is_relative_to(self.folder.resolve()):
            raise UsageError(f"{self.name}: {shared(folder)}")
        if lock is not None:
            weakref.finalize(self, _end, self.folder, lock)

    def missing(self, sizes: Mapping[str, int]) -> list[str]:
        places = {remote: self._inside(remote) for remote in sizes}
        return [
            remote
            for remote, place in places.items()
            if not place.is_file() or place.stat().st_size != sizes[remote]
        ]

    def push(self, local: Path, remote: str) -> None:
        if not local.is_file():
            raise DeviceError(f"there is no file {local} to send to {self.name}.")
        target = self._inside(remote)
        try:
            self._make()
            target.parent.mkdir(parents=True, exist_ok=True)
            self._take(local, target)
        except OSError as error:
            words = unwritable(str(error.strerror), str(self.folder))
            raise DeviceError(f"{self.name}: {local.name} could not be kept: {words}") from error

    def run(
        self,
        argv: Sequence[str],
        timeout: float,
        on_line: Callable[[str], None] | None = None,
        silence: float = float("inf"),
    ) -> str:
        try:
            self._make()
            ended = listen(argv, timeout, on_line, self.folder, silence)
        except OSError as error:
            raise DeviceError(
                f"{argv[0]} cannot be run on {self.name}: {error.strerror}. "
                "Check the path of the Python in the device's profile."
            ) from error
        if ended.flooded:
            raise DeviceError(flooded(self.name))
        if ended.silent:
            raise LinkError(
                f"{argv[0]} said nothing on {self.name} for {silence:g} s.", beyond=True
            )
        if ended.late:
            raise DeviceError(
                f"{argv[0]} was still running on {self.name} after {timeout:g} s and was ended. "
                "Allow more time, or give it less to do."
            )
        said = f"It said: {ended.err[-800:] or 'nothing'}"
        if ended.code < 0:
            raise LinkError(
                f"{argv[0]} was ended by signal {-ended.code} on {self.name}. {said}", beyond=True
            )
        if ended.code != 0:
            raise DeviceError(f"{argv[0]} ended with exit code {ended.code} on {self.name}. {said}")
        return ended.out

    def pull(self, remote: str, local: Path, most: int) -> None:
        source = self._inside(remote)
        if not source.is_file():
            raise DeviceError(f"there is no {remote} on {self.name} to fetch.")
        if source.stat().st_size > most:
            raise DeviceError(f"{remote} on {self.name} has more than {most:,} bytes.")
        shutil.copyfile(source, local)

    def remove(self, remotes: Sequence[str]) -> None:
        for remote in remotes:
            path = self._inside(remote)
            path.unlink(missing_ok=True)
            if path.parent != self.folder.resolve():
                with suppress(OSError):  # it holds something else, or is not there
                    path.parent.rmdir()

    def clear(self, *, environments: bool = True) -> None:
        if self._private:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif self.folder.is_dir():
            try:
                with turns.take_alone(self.folder):
                    keeper.check_idle(self.folder)
                    locking.restore(locking.place(self.folder))
                    self._clear(environments)
            except AgentError as error:
                raise DeviceError(others(self.name, str(error))) from error

    def _clear(self, environments: bool) -> None:
        kept = not environments and any(VENV.fullmatch(path.name) for path in self.folder.iterdir())
        if (self.folder / MARK).exists() and not kept and not (self.folder / locking.FILE).exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        for path in self.folder.iterdir():  # others' files may lie there
            if OURS.fullmatch(path.name) or (not kept and VENV.fullmatch(path.name)):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def _make(self) -> None:
        if self._private or not self.folder.is_dir():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.folder / MARK).touch()

    def _take(self, local: Path, target: Path) -> None:
        """Have a file whole or not at all; nothing is written to it, so a copy may be a waste."""
        if self._private:
            with suppress(OSError):
                os.link(local.resolve(), target)
                return
        draft = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
        try:
            shutil.copyfile(local, draft)
            flush(draft)  # a power cut would leave the name of what was not written yet
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)

    def _inside(self, remote: str) -> Path:
        path = (self.folder / remote).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise DeviceError(f"{remote} lies outside of the folder of {self.name}.")
        return path
