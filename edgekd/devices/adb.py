"""An Android board over ``adb``, the Android debug bridge's own client.

No such board was at hand when this was written: it is tested against a stand-in for ``adb`` that
runs commands on the machine of the tests. A board's shell has to be Android 7's or newer, whose
``adb shell`` keeps standard error apart and hands exit codes on; and it needs a Python of 3.8 or
newer with numpy and the runtime, such as Termux's (``/data/data/com.termux/files/usr/bin/python``,
which only root may run from outside of Termux) or one pushed to ``/data/local/tmp``.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from edgekd.devices._listening import Ended, listen
from edgekd.devices._posix import Posix, settle
from edgekd.errors import DeviceError, LinkError, UsageError

__all__ = ["over_adb"]

ROOM = "/data/local/tmp/"  # where Android lets the shell's user write, and run what it wrote
FOLDER = "edgekd-agent"
ADDRESS = re.compile(r"adb://(?P<serial>[A-Za-z0-9][\w.:-]*)(?P<python>/.+)?", re.ASCII)
SIGNALLED = range(129, 193)  # what a shell makes of a program that a signal ended
ASKING_S = 15.0
STATES = {
    "unauthorized": "it does not trust this computer yet. Unlock its screen and allow debugging.",
    "no permissions": "this user may not use its USB port. Add a udev rule for it (Debian: "
    "android-sdk-platform-tools-common).",
}


def over_adb(address: str, name: str = "", python: str = "", folder: str = "") -> Posix:
    """A board over adb.

    Args:
        address: ``adb://SERIAL`` or ``adb://SERIAL/path/of/python``; serials as ``adb devices``
            lists them, ``HOST:PORT`` for a board on the network.
        name: what the records call it; the address without the Python unless given.
        python: the Python there, where the address does not say; ``python3`` unless given.
        folder: where files go, where not into ``/data/local/tmp/edgekd-agent``.

    Raises:
        UsageError: the address cannot be read, or the folder is one that others use.
    """
    found = ADDRESS.fullmatch(address) if address.isprintable() else None
    if found is None:
        raise UsageError(
            f"cannot read the device {address!r}; expected adb://SERIAL/path/of/python, of which "
            "the Python may be left out, with a serial of `adb devices`."
        )
    called = name or f"adb://{found['serial']}"
    where = settle(folder or FOLDER, ROOM)
    link = _Link(found["serial"], called)
    return Posix(link, called, found["python"] or python or "python3", where)


@dataclass(frozen=True)
class _Link:
    serial: str
    name: str

    def command(self, *argv: str) -> list[str]:
        # adb hands its command to the shell there; -T leaves bytes as they are
        return ["adb", "-s", self.serial, "shell", "-T", shlex.join(argv)]

    def failure(self, ended: Ended) -> DeviceError | None:
        said = f"It said: {ended.err[-800:] or 'nothing'}"
        if ended.code in SIGNALLED:
            return LinkError(
                f"{self.name}: a program there was ended by a signal, most likely because its "
                f"memory ran out. Use a smaller batch or model, or stop other programs. {said}",
                beyond=True,
            )
        # adb's own failures have the exit code of many a program's: only its state tells them
        state = listen(["adb", "-s", self.serial, "get-state"], ASKING_S)
        if state.code == 0 and state.out.strip() == "device":
            return None
        for words, sentence in STATES.items():
            if words in state.err:
                return DeviceError(f"{self.name}: {sentence}")
        return LinkError(
            f"{self.name}: adb does not reach it. See that it is plugged in and on, that USB "
            f"debugging is allowed, and that `adb devices` lists it. {said}"
        )

    def hang_up(self) -> None:
        """Nothing is kept from one command to the next."""

    def missing(self, error: OSError) -> DeviceError:
        return DeviceError(
            f"adb cannot be run here: {error.strerror}. Install Android's platform tools "
            "(Debian: apt-get install adb) to reach boards over it."
        )
