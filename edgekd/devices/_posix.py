"""A machine with a POSIX shell, over whatever link brings a command there: files and programs.

What has to be said to a shell is said to ``sh``, and everything that varies is an argument of it,
so that nothing in a name or an argument is taken for a command.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from edgekd.agent import turns
from edgekd.devices._listening import Ended, carry, listen
from edgekd.devices._refusals import colon, flooded, others, shared, unanswered, unwritable
from edgekd.devices._scripts import (
    CLEAR,
    FETCH,
    HAS,
    IN_USE,
    KEEP,
    NO_FILE,
    NO_PLACE,
    NO_ROOM,
    RUN,
    SWEEP,
)
from edgekd.errors import DeviceError, LinkError, UsageError
from edgekd.files import aside
from edgekd.plain import one_line

LONGEST = 800  # characters of who holds a device
NO_PROGRAM = (126, 127)
SLOWEST = 20_000  # bytes a second; a link that is slower is taken for one that hangs
PATIENCE = 60.0  # seconds for what takes none
REMOVING = 8.0  # what is left over is swept up another time: whoever stops wants to be gone
CLEARING = 600.0  # for thousands of files of an environment on an SD card
ALONE_S = 300.0  # longer than it is tried to get back to a device whose link was lost


class Link(Protocol):
    """How a command gets to a machine."""

    def command(self, *argv: str) -> list[str]:
        """The program here, and its arguments, that has a program run there."""
        ...

    def failure(self, ended: Ended) -> DeviceError | None:
        """What an end means that has to do with the link; None where it is the program's own."""
        ...

    def hang_up(self) -> None:
        """Give up what is left of a connection that is lost."""
        ...

    def missing(self, error: OSError) -> DeviceError:
        """What it means that the program here cannot be run."""
        ...


@dataclass(frozen=True)
class Posix:
    """A machine with a POSIX shell: the verbs of :class:`edgekd.devices.Device`.

    Args:
        link: how commands get there.
        name: what the records call it.
        python: the Python there.
        folder: where files go; relative to where commands start, or absolute.
    """

    link: Link
    name: str
    python: str
    folder: str
    alone_s: float = ALONE_S

    def missing(self, sizes: Mapping[str, int]) -> list[str]:
        remotes = [*sizes]
        asked = [word for name, size in sizes.items() for word in (self._inside(name), str(size))]
        ended = self._listen(self._there(HAS, *asked), PATIENCE)
        self._check(ended, "cannot look for what is there", PATIENCE)
        numbers = {str(number): remote for number, remote in enumerate(remotes)}
        said = ended.out.split()
        if not numbers.keys() >= set(said) or len(said) > len(numbers):
            raise DeviceError(
                f"{self.name} said {ended.out[:300]!r} where only numbers of files were expected. "
                "See that its shell's start-up files print nothing."
            )
        return [numbers[number] for number in said]

    def push(self, local: Path, remote: str) -> None:
        if not local.is_file():
            raise DeviceError(f"there is no file {local} to send to {self.name}.")
        target, size = self._inside(remote), local.stat().st_size
        part = f"{target}.{secrets.token_hex(4)}.part"
        limit = PATIENCE + size / SLOWEST
        with local.open("rb") as file:
            sent = self._copy(self._there(KEEP, target, part, str(size)), file, None, limit)
        if sent.late:
            raise DeviceError(
                f"{self.name}: {local.name} of {size / 1e6:.1f} MB was not there after "
                f"{limit:.0f} s, so the link is slower than {SLOWEST / 1000:g} kB/s or hangs. See "
                "to the network and try again, or send a smaller model or fewer images."
            )
        if sent.code == NO_ROOM:
            words = unwritable(sent.err, self.folder)
            raise DeviceError(f"{self.name}: {local.name} could not be kept there: {words}")
        self._check(sent, f"{local.name} could not be kept there")

    def run(
        self,
        argv: Sequence[str],
        timeout: float,
        on_line: Callable[[str], None] | None = None,
        silence: float = float("inf"),
    ) -> str:
        ended = self._listen(self._there(RUN, *argv), timeout, on_line, silence)
        if ended.silent:
            self.link.hang_up()
            raise LinkError(
                f"{argv[0]} said nothing on {self.name} for {silence:g} s: it hangs, or the link. "
                "See that the device is not short of memory, or restart it.",
                beyond=True,
            )
        if ended.late:
            raise DeviceError(
                f"{argv[0]} was still running on {self.name} after {timeout:g} s and was left. "
                "Allow more time, or give it less to do."
            )
        if ended.code in NO_PROGRAM:
            raise DeviceError(
                f"{argv[0]} cannot be run on {self.name}: {ended.err[-300:]}. Install it there, or "
                f"say where its Python is: {_with_python(self.name)}"
            )
        if ended.code == NO_ROOM:
            raise DeviceError(f"{self.name}: {unwritable(ended.err, self.folder)}")
        self._check(ended, f"{argv[0]} ended with exit code {ended.code}")
        return ended.out

    def pull(self, remote: str, local: Path, most: int) -> None:
        command, limit = self._there(FETCH, self._inside(remote)), PATIENCE + most / SLOWEST
        with aside(local) as draft, draft.open("wb") as file:
            ended = self._copy(command, None, file, limit, most)
            if ended.code == NO_FILE:
                raise DeviceError(f"there is no {remote} on {self.name} to fetch.")
            if ended.late:
                raise DeviceError(f"{self.name}: {remote} was not here after {limit:.0f} s.")
            self._check(ended, f"{remote} could not be fetched")

    def remove(self, remotes: Sequence[str]) -> None:
        for remote in remotes:
            self._inside(remote)  # refuses what is not
        ended = self._listen(self._there(SWEEP, *remotes), REMOVING)
        self._check(ended, "what is not needed any more cannot be removed", REMOVING)

    def clear(self, *, environments: bool = True) -> None:
        script = self._there(CLEAR, self.python, "yes" if environments else "no")
        ended = self._listen(script, CLEARING)
        if ended.code == IN_USE:
            signed, _, uptime = ended.out.partition("\n")
            found = re.match(r"\d{1,12}(\.\d{1,9})?", uptime)
            held = turns.sentence(turns.read_holder(signed), float(found[0]) if found else 0.0)
            raise DeviceError(others(self.name, one_line(held, LONGEST)))
        self._check(ended, f"{self.folder} cannot be removed", CLEARING)

    def _inside(self, remote: str) -> str:
        path = PurePosixPath(remote)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise DeviceError(f"{remote} lies outside of the folder of {self.name}.")
        return f"./{path}"  # never an option, whatever its name

    def _there(self, script: str, *arguments: str) -> list[str]:
        """What to run here for ``sh`` to run a script there."""
        return self.link.command("sh", "-c", script, "sh", self.folder, *arguments)

    def _listen(
        self,
        argv: Sequence[str],
        timeout: float,
        on_line: Callable[[str], None] | None = None,
        silence: float = float("inf"),
    ) -> Ended:
        try:
            return self._quiet(listen(argv, timeout, on_line, silence=silence))
        except OSError as error:
            raise self.link.missing(error) from error

    def _copy(
        self,
        argv: Sequence[str],
        source: IO[bytes] | None,
        target: IO[bytes] | None,
        timeout: float,
        most: int = 0,
    ) -> Ended:
        """Run a command there with files for its input and output."""
        try:
            return self._quiet(carry(argv, source, target, timeout, most))
        except OSError as error:
            raise self.link.missing(error) from error

    def _quiet(self, ended: Ended) -> Ended:
        if ended.flooded:
            raise DeviceError(flooded(self.name))
        return ended

    def _check(self, ended: Ended, failed: str, limit: float = 0.0) -> None:
        """Raise what a command's end means, unless all went well; it had ``limit`` s for it."""
        if ended.code == 0:
            return
        if ended.late:
            raise DeviceError(unanswered(self.name, failed, limit, ended.err))
        if ended.code == NO_PLACE:
            raise DeviceError(f"{self.name}: {shared(self.folder)}")
        error = self.link.failure(ended)
        said = f"It said: {ended.err[-800:] or 'nothing'}"
        raise error or DeviceError(f"{self.name}: {failed}. {said}")


def _with_python(name: str) -> str:
    """How to name another Python: in the address, or in what is written of a registered device."""
    if "://" in name:
        return f"{name}/path/of/python"
    return (
        f"edgekd device add {name} ADDRESS --python PATH --replace. One with numpy and the "
        f"runtime can then be made: edgekd device doctor {name} --venv"
    )


def settle(folder: str, start: str) -> str:
    """A folder of a profile as the shell there takes it.

    Args:
        folder: ``/absolute``, ``~/in/the/home/folder``, or relative to it.
        start: what comes before one that is relative.

    Raises:
        UsageError: it is the home folder itself, or leaves it; or it holds a colon.
    """
    path = PurePosixPath(folder.removeprefix("~/"))
    if ":" in folder:
        raise UsageError(colon(folder))
    if not path.name or ".." in path.parts or path.parts[0].startswith(("~", "-")):
        raise UsageError(
            f"the device's folder is {folder!r}; expected one for edgekd alone, such as "
            "~/.cache/edgekd-agent or /data/edgekd."
        )
    return str(path) if path.is_absolute() else f"{start}{path}"
