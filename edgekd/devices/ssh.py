"""A machine reached over ssh, by the system's own OpenSSH client."""

from __future__ import annotations

import secrets
import shlex
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO

from edgekd.devices import KEPT_DAYS
from edgekd.devices._hosts import parse
from edgekd.devices._listening import Ended, listen
from edgekd.devices._refusals import refusal
from edgekd.errors import DeviceError
from edgekd.files import aside

__all__ = ["Ssh"]

FOLDER = ".cache/edgekd-agent"  # in the home folder there
SSH_FAILED = 255  # also what ssh makes of a program that a signal ended
SIGNALLED = range(129, 193)  # what a shell makes of one
NO_PROGRAM = (126, 127)
NO_FILE = 44
SLOWEST = 20_000  # bytes a second; a link that is slower is taken for one that hangs
PATIENCE = 60.0  # seconds for what takes none
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

# ssh hands its command to the login shell there, whichever that is; what has to be said to a POSIX
# shell is said to `sh`, and everything that varies is an argument of it, quoted once.
HAS = 'test -f "$1" || exit 1; touch -c "$1" 2> /dev/null; exit 0'  # its time says it is in use
RUN = 'umask 077; mkdir -p "$1" && cd "$1" && shift && exec "$@"'
FETCH = f'test -f "$1" || exit {NO_FILE}; cat "$1"'
# A link that is cut looks like the end of the file to `cat`: hence the size.
KEEP = (
    'umask 077; mkdir -p "$(dirname "$1")" && cat > "$2" && test "$(wc -c < "$2")" -eq "$3" '
    '&& mv "$2" "$1" || { rm -f "$2"; exit 1; }'
)
# A folder changes when a file of it goes, so its own turn comes later: nobody writes into it then.
SWEEP = (
    'cd "$1" 2> /dev/null || exit 0; shift; for file do rm -f "./$file"; '
    'case "$file" in */*) rmdir "./${file%/*}" 2> /dev/null;; esac; done; '
    f"find . -type f -mtime +{KEPT_DAYS} -exec rm -f {{}} + ; "
    f"find . -depth ! -name . -type d -mtime +{KEPT_DAYS} -exec rmdir {{}} + 2> /dev/null; exit 0"
)


class Ssh:
    """A machine over ssh; the user's own ssh configuration, keys and known hosts apply.

    But for what needs a person, or could send files to another machine: host keys have to be known
    beforehand, even where the configuration would accept them (``accept-new``, ``no``).

    Files stay in a folder of the home folder there, so that what was sent once is not sent again,
    until they were not used for 30 days.

    Args:
        address: ``user@host``, a ``Host`` of the ssh configuration, or
            ``ssh://user@host:port/path/of/python``; the Python is ``python3`` unless given.

    Raises:
        UsageError: the address cannot be read.
    """

    def __init__(self, address: str) -> None:
        self._host = parse(address)
        self.name = str(self._host)
        self.python = self._host.python or "python3"
        # In /tmp, as a socket's path may have 108 bytes and ssh adds 17 of its own.
        private = Path(tempfile.mkdtemp(prefix="edgekd-", dir="/tmp"))
        options = {**OPTIONS, "ControlPath": str(private / "link")}
        self._ssh = ["ssh", "-T", *(f"-o{key}={value}" for key, value in options.items())]
        weakref.finalize(self, _hang_up, [*self._ssh, "-Oexit", *self._host.arguments], private)

    def push(self, local: Path, remote: str) -> None:
        if not local.is_file():
            raise DeviceError(f"there is no file {local} to send to {self.name}.")
        target = self._inside(remote)
        there = self._listen([*self._ssh, *self._there(HAS, target)], PATIENCE)
        if there.code == 0:
            return
        self._check(there, f"cannot look for {remote}", allowed=(1,))
        size = local.stat().st_size
        part = f"{target}.{secrets.token_hex(4)}.part"
        with local.open("rb") as file:
            command = self._there(KEEP, target, part, str(size))
            limit = PATIENCE + size / SLOWEST
            sent = self._copy(command, file, None, limit)
        if sent.late:
            raise DeviceError(
                f"{self.name}: {local.name} of {size / 1e6:.1f} MB was not there after "
                f"{limit:.0f} s, so the link is slower than {SLOWEST / 1000:g} kB/s or hangs. See "
                "to the network and try again, or send a smaller model or fewer images."
            )
        self._check(sent, f"{local.name} could not be kept there. See that the disk is not full")

    def run(
        self,
        argv: Sequence[str],
        timeout: float,
        on_line: Callable[[str], None] | None = None,
    ) -> str:
        ended = self._listen([*self._ssh, *self._there(RUN, FOLDER, *argv)], timeout, on_line)
        if ended.late:
            raise DeviceError(
                f"{argv[0]} was still running on {self.name} after {timeout:g} s and was left. "
                "Allow more time, or give it less to do."
            )
        if ended.code in NO_PROGRAM:
            raise DeviceError(
                f"{argv[0]} cannot be run on {self.name}: {ended.err[-300:]}. Install it there, or "
                f"say where its Python is: {self.name}/path/of/python"
            )
        self._check(ended, f"{argv[0]} ended with exit code {ended.code}")
        return ended.out

    def pull(self, remote: str, local: Path) -> None:
        command = self._there(FETCH, self._inside(remote))
        with aside(local) as draft, draft.open("wb") as file:
            ended = self._copy(command, None, file, None)
            if ended.code == NO_FILE:
                raise DeviceError(f"there is no {remote} on {self.name} to fetch.")
            self._check(ended, f"{remote} could not be fetched")

    def remove(self, remotes: Sequence[str]) -> None:
        for remote in remotes:
            self._inside(remote)  # refuses what is not
        ended = self._listen([*self._ssh, *self._there(SWEEP, FOLDER, *remotes)], PATIENCE)
        self._check(ended, "what is not needed any more cannot be removed")

    def _inside(self, remote: str) -> str:
        path = PurePosixPath(remote)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise DeviceError(f"{remote} lies outside of the folder of {self.name}.")
        return f"{FOLDER}/{path}"

    def _there(self, script: str, *arguments: str) -> list[str]:
        """What to add to ssh's own arguments for ``sh`` to run a script there."""
        return [*self._host.arguments, shlex.join(["sh", "-c", script, "sh", *arguments])]

    def _listen(
        self, argv: Sequence[str], timeout: float, on_line: Callable[[str], None] | None = None
    ) -> Ended:
        try:
            return listen(argv, timeout, on_line)
        except OSError as error:
            raise _no_client(error) from error

    def _copy(
        self,
        command: Sequence[str],
        source: IO[bytes] | None,
        target: IO[bytes] | None,
        timeout: float | None,
    ) -> Ended:
        """Run a command there with files for its input and output."""
        with tempfile.TemporaryFile() as stderr:
            try:
                done = subprocess.run(
                    [*self._ssh, *command],
                    stdin=source or subprocess.DEVNULL,
                    stdout=target or subprocess.DEVNULL,
                    stderr=stderr,
                    timeout=timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return Ended("", "it took too long", 1, late=True)
            except OSError as error:
                raise _no_client(error) from error
            stderr.seek(0)
            said = stderr.read().decode("utf-8", errors="replace").strip()
        return Ended("", said, done.returncode, late=False)

    def _check(self, ended: Ended, failed: str, allowed: Sequence[int] = ()) -> None:
        """Raise what a command's end means, unless all went well."""
        if ended.code == 0 or ended.code in allowed:
            return
        said = f"It said: {ended.err[-800:] or 'nothing'}"
        if ended.code in SIGNALLED or (ended.code == SSH_FAILED and self._linked()):
            raise DeviceError(
                f"{self.name}: a program there was ended by a signal, most likely because its "
                f"memory ran out. Use a smaller batch or model, or stop other programs. {said}"
            )
        if ended.code != SSH_FAILED:
            raise DeviceError(f"{self.name}: {failed}. {said}")
        hand = shlex.join(["ssh", *(a for a in self._host.arguments if a != "--")])
        raise DeviceError(f"{self.name}: {refusal(ended.err, self._host.host, hand)}")

    def _linked(self) -> bool:
        """Whether the connection is up, so that it was not ssh that failed."""
        return self._listen([*self._ssh, "-Ocheck", *self._host.arguments], PATIENCE).code == 0


def _no_client(error: OSError) -> DeviceError:
    return DeviceError(
        f"ssh cannot be run here: {error.strerror}. Install OpenSSH's client to reach devices."
    )


def _hang_up(argv: Sequence[str], private: Path) -> None:
    if (private / "link").exists():
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(argv, capture_output=True, timeout=5, check=False)
    shutil.rmtree(private, ignore_errors=True)
