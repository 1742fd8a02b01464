"""How a host is named: an address, or a Host of the user's ssh configuration."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass

from edgekd.devices._listening import carry
from edgekd.errors import UsageError

ASKING_S = 10.0
NOBODY = "edgekd-host-that-nobody-has"
_NAME = r"[^-@:/\s\[\]?#][^@:/\s\[\]?#]*"  # a leading dash would be an option of ssh's
_ADDRESS = re.compile(
    rf"(?:ssh://)?(?:(?P<user>{_NAME})@)?(?P<host>{_NAME}|\[[0-9A-Fa-f:.%\w]+\])"
    r"(?::(?P<port>\d+))?(?P<python>/.+)?"
)


@dataclass(frozen=True)
class Host:
    """Where ssh goes; what is None is left to the user's ssh configuration."""

    host: str
    user: str | None = None
    port: int | None = None
    python: str | None = None

    @property
    def arguments(self) -> list[str]:
        """For ssh."""
        port = [] if self.port is None else ["-p", str(self.port)]
        user = [] if self.user is None else ["-l", self.user]
        return [*port, *user, "--", self.host]

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"ssh://{user}{host}{f':{self.port}' if self.port else ''}"


def parse(address: str) -> Host:
    """Read ``ssh://user@host:port/path/of/python``, ``user@host`` or a bare name.

    Raises:
        UsageError: it is none of these.
    """
    found = _ADDRESS.fullmatch(address) if address.isprintable() else None
    plain = not address.startswith("ssh://")
    if found is None or (plain and (found["port"] or found["python"])):
        raise UsageError(
            f"cannot read the device {address!r}; expected ssh://user@host:port/path/of/python, "
            "of which all but the host may be left out, or user@host (a port or a Python "
            "needs ssh:// before it)."
        )
    port = None if found["port"] is None else int(found["port"])
    if port is not None and not 0 < port < 65536:
        raise UsageError(f"the port of {address!r} is {port}; expected 1 to 65535.")
    return Host(found["host"].strip("[]"), found["user"], port, found["python"])


def configured(name: str) -> bool:
    """Whether ssh's configuration says something about this name that it does not say of any."""
    if re.fullmatch(_NAME, name) is None:
        return False
    here, anywhere = _options(name), _options(NOBODY)
    return here["hostname"] != name.lower() or _rest(here) != _rest(anywhere)


def _options(name: str) -> dict[str, str]:
    """What ``ssh -G`` prints, by keyword; nothing where there is no ssh."""
    table = {"hostname": name.lower()}
    try:
        with tempfile.TemporaryFile() as said:
            if carry(["ssh", "-G", "--", name], None, said, ASKING_S).late:
                return table
            said.seek(0)
            text = os.fsdecode(said.read())  # a name may be no text, as arguments may be
    except OSError:
        return table
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        table[key] = value if key == "hostname" else f"{table.get(key, '')} {value}"
    return table


def _rest(options: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in options.items() if key not in ("host", "hostname")}
