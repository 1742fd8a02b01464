"""A machine reached over ssh, by the system's own OpenSSH client."""

from __future__ import annotations

import os
import shlex
import shutil
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgekd.devices._hosts import Host, parse
from edgekd.devices._listening import Ended, carry, listen
from edgekd.devices._posix import Posix, settle
from edgekd.devices._refusals import refusal
from edgekd.errors import DeviceError, LinkError
from edgekd.files import held_folder, sweep

__all__ = ["over_ssh"]

PLACE = Path("/tmp")
"""Of the sockets, whose paths may have 108 bytes, 17 of which ssh adds."""
FOLDER = ".cache/edgekd-agent"  # in the home folder there
CONTROL_S = 5.0  # for what ssh asks of itself
SSH_FAILED = 255  # also what ssh makes of a program that a signal ended
SIGNALLED = range(129, 193)  # what a shell makes of one
OPTIONS = {
    "BatchMode": "yes",  # no questions: nobody may be there to answer
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",  # a link that is cut is noticed within 20 s
    "ServerAliveCountMax": "3",
    "ControlMaster": "auto",
    "ControlPersist": "15",
    "ClearAllForwardings": "yes",  # those of the user's are for sessions of theirs
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "RemoteCommand": "none",
    "LogLevel": "ERROR",
}


def over_ssh(address: str, name: str = "", python: str = "", folder: str = "") -> Posix:
    """A machine over ssh; the user's own ssh configuration, keys and known hosts apply.

    But for what needs a person, or could send files to another machine: host keys have to be known
    beforehand, even where the configuration would accept them (``accept-new``, ``no``).

    Files stay in a folder there, so that what was sent once is not sent again, until they were not
    used for 30 days.

    Args:
        address: ``user@host``, a ``Host`` of the ssh configuration, or
            ``ssh://user@host:port/path/of/python``; the Python is ``python3`` unless given.
        name: what the records call it; the address unless given.
        python: the Python there, where the address does not say.
        folder: where files go, where not into ``~/.cache/edgekd-agent``.

    Raises:
        UsageError: the address cannot be read, or the folder is the home folder itself.
    """
    host = parse(address)
    called = name or str(host)
    where = settle(folder or FOLDER, "")
    return Posix(_Link(host, called), called, host.python or python or "python3", where)


class _Link:
    """One connection for all commands, kept while the object lives."""

    def __init__(self, host: Host, name: str) -> None:
        self._host, self._name = host, name
        sweep(PLACE, depth=0)
        self.private, held = held_folder(PLACE)
        options = {**OPTIONS, "ControlPath": str(self.private / "link")}
        self._ssh = ["ssh", "-T", *(f"-o{key}={value}" for key, value in options.items())]
        weakref.finalize(self, _forget, self._control("exit"), self.private, held)

    def command(self, *argv: str) -> list[str]:
        # ssh hands its command to the login shell there, whichever that is
        return [*self._ssh, *self._host.arguments, shlex.join(argv)]

    def failure(self, ended: Ended) -> DeviceError | None:
        if ended.code in SIGNALLED or (ended.code == SSH_FAILED and self._linked()):
            return LinkError(
                f"{self._name}: a program there was ended by a signal, most likely because its "
                "memory ran out. Use a smaller batch or model, or stop other programs. It said: "
                f"{ended.err[-800:] or 'nothing'}",
                beyond=True,
            )
        if ended.code != SSH_FAILED:
            return None
        hand = shlex.join(["ssh", *(a for a in self._host.arguments if a != "--")])
        said, passes = refusal(ended.err, self._host.host, hand)
        if not passes:
            return DeviceError(f"{self._name}: {said}")
        self.hang_up()
        return LinkError(f"{self._name}: {said}")

    def hang_up(self) -> None:
        _end_link(self._control("exit"))  # the next try would wait for it

    def missing(self, error: OSError) -> DeviceError:
        return DeviceError(
            f"ssh cannot be run here: {error.strerror}. Install OpenSSH's client to reach devices."
        )

    def _linked(self) -> bool:
        """Whether the connection is up, so that it was not ssh that failed."""
        try:
            return listen(self._control("check"), CONTROL_S).code == 0
        except OSError as error:
            raise self.missing(error) from error

    def _control(self, verb: str) -> list[str]:
        return [*self._ssh, f"-O{verb}", *self._host.arguments]


def _end_link(argv: Sequence[str]) -> None:
    with suppress(OSError):
        carry(argv, None, None, CONTROL_S)


def _forget(argv: Sequence[str], private: Path, held: int) -> None:
    if (private / "link").exists():
        _end_link(argv)
    shutil.rmtree(private, ignore_errors=True)
    os.close(held)
