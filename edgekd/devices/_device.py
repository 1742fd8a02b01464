"""What a device is to edgekd: a machine with a folder, reached in a few verbs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

Event = dict[str, Any]
"""A line of the agent's; ``event`` says what it is."""
KEPT_DAYS = 30
"""What a device keeps is removed when it was not used for so long."""


class Device(Protocol):
    """A machine with a folder for edgekd's files; remote paths are relative to that folder."""

    @property
    def name(self) -> str:
        """What the records call it."""
        ...

    @property
    def python(self) -> str:
        """The Python that has numpy and the runtime."""
        ...

    @property
    def alone_s(self) -> float:
        """Seconds that a run there goes on for while nobody listens to it."""
        ...

    def missing(self, sizes: Mapping[str, int]) -> list[str]:
        """Which of these files are not there in their size; those that are count as used today."""
        ...

    def push(self, local: Path, remote: str) -> None:
        """Send a file: it is there whole or not at all."""
        ...

    def run(
        self,
        argv: Sequence[str],
        timeout: float,
        on_line: Callable[[str], None] | None = None,
        silence: float = float("inf"),
    ) -> str:
        """Run a program in the folder, never through a shell.

        Its standard input is held open, and gets an empty line every few seconds.

        Args:
            argv: program and arguments.
            timeout: seconds after which it is ended.
            on_line: called with each line of standard output as it comes.
            silence: seconds without such a line after which the link is taken for lost.

        Returns:
            Its whole standard output.

        Raises:
            LinkError: the link was lost; the program may be running still.
            DeviceError: it could not be run, failed, or took too long.
        """
        ...

    def pull(self, remote: str, local: Path, most: int) -> None:
        """Fetch a file of at most so many bytes: it is here whole or not at all."""
        ...

    def remove(self, remotes: Sequence[str]) -> None:
        """Remove files; and what else edgekd sent that was not used for :data:`KEPT_DAYS` days."""
        ...

    def clear(self, *, environments: bool = True) -> None:
        """Remove what edgekd put there: all of its folder, if that was not there before.

        Args:
            environments: whether those go as well: a profile may name the Python of one.

        Raises:
            DeviceError: somebody is measuring there at this moment; or it cannot be removed.
        """
        ...
