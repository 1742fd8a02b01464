"""Devices: ways to reach a machine, in four verbs; and the agent's journey there and back."""

from __future__ import annotations

import hashlib
import json
import secrets
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from edgekd import plugins
from edgekd.devices._hosts import configured
from edgekd.errors import DeviceError, UnknownNameError

Event = dict[str, Any]
AGENT = 1  # the version of the agent's job that is written here
PACKAGE = Path(__file__).parents[1]
OLDEST_PYTHON = (3, 8)
RUN = "run-"
KEPT_DAYS = 30
"""What a device keeps is removed when it was not used for so long."""

# At the root of the zip, so that `python agent.zip job.json` runs; any Python can read it.
ENTRY = f"""import json, sys
if sys.version_info < {OLDEST_PYTHON}:
    print(json.dumps({{"event": "error", "kind": "python", "message":
        "the device's Python is " + sys.version.split()[0] + "; the agent needs "
        "{".".join(map(str, OLDEST_PYTHON))} or newer. Name another in the device's profile."}}))
    sys.exit(1)
from edgekd.agent.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


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

    def push(self, local: Path, remote: str) -> None:
        """Send a file; where ``remote`` is there already it need not be sent again."""
        ...

    def run(
        self,
        argv: Sequence[str],
        timeout: float,
        on_line: Callable[[str], None] | None = None,
    ) -> str:
        """Run a program in the folder, its standard input held open, never through a shell.

        Args:
            argv: program and arguments.
            timeout: seconds after which it is ended.
            on_line: called with each line of standard output as it comes.

        Returns:
            Its whole standard output.

        Raises:
            DeviceError: it could not be run, failed, or took too long.
        """
        ...

    def pull(self, remote: str, local: Path) -> None:
        """Fetch a file."""
        ...

    def remove(self, remotes: Sequence[str]) -> None:
        """Remove files; and whatever else was not used for :data:`KEPT_DAYS` days."""
        ...


def reach(name: str) -> Device:
    """The device of a name.

    Args:
        name: ``local``, an address such as ``ssh://user@host:port/path/of/python`` or
            ``user@host``, or a ``Host`` of the user's ssh configuration.

    Raises:
        UnknownNameError: it is none of these.
        UsageError: the address cannot be read.
    """
    device: Device
    if name.startswith("ssh://") or "@" in name or (name != "local" and configured(name)):
        device = plugins.load("device", "ssh")(name)
    elif name in plugins.files("device") and name != "ssh":
        device = plugins.load("device", name)()
    else:
        expected = ("local", "ssh://user@host:port", "user@host", "a Host of ~/.ssh/config")
        raise UnknownNameError("device", name, expected)
    return device


def describe(device: Device, timeout: float = 120.0) -> dict[str, Any]:
    """What the agent sees of a device, without measuring: ``machine``, ``cpu_flags``, ``gpu``, ...

    Raises:
        DeviceError: it cannot be reached, or lacks Python.
    """
    return dict(ship(device, {"agent": AGENT, "task": "describe"}, {}, timeout)["device"])


def address(path: Path, *beside: Path) -> str:
    """Where a file goes on a device: a folder named by its content, then its own name.

    Args:
        path: the file.
        beside: files that have to lie in the same folder, such as a model's weights.
    """
    whole = hashlib.sha256()
    for each in (path, *beside):
        with each.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return f"{whole.hexdigest()[:16]}/{path.name}"


def ship(
    device: Device,
    job: Mapping[str, Any],
    files: Mapping[str, Path],
    timeout: float,
    on_event: Callable[[Event], None] | None = None,
    passing: Mapping[str, Path] | None = None,
) -> Event:
    """Send the agent, a job and its files to a device, run it there, and bring back its result.

    The agent and ``files`` stay there, so that they need not be sent again; the job and ``passing``
    are removed, however the run ended.

    Args:
        device: where.
        job: the agent's job; it names files by their address.
        files: address -> the file here.
        timeout: seconds for the whole run.
        on_event: called with every event but the last, as it happens.
        passing: files for this run alone, such as images; their addresses are :func:`unshared`.

    Raises:
        DeviceError: the device or the agent refused; the message is the agent's own where it
            gave one.
    """
    passing = passing or {}
    # at the top of the folder, as its paths are relative to where it lies
    ordered = f"{RUN}{secrets.token_hex(8)}-job.json"
    try:
        for remote, local in {**files, **passing}.items():
            device.push(local, remote)
        with tempfile.TemporaryDirectory(prefix="edgekd-") as folder:
            agent, work = Path(folder) / "agent.zip", Path(folder) / "job.json"
            pack_agent(agent)
            work.write_text(json.dumps({**job, "exit_with_stdin": True}, sort_keys=True), "utf-8")
            zipped = f"{address(agent).partition('/')[0]}-{agent.name}"
            device.push(agent, zipped)
            device.push(work, ordered)
        return _run_agent(device, [device.python, zipped, ordered], timeout, on_event)
    finally:
        discard(device, [ordered, *passing])


def unshared(path: Path) -> str:
    """Where a file for one run goes on a device: no other run reads it, so it can be removed."""
    return f"{RUN}{secrets.token_hex(8)}/{path.name}"


def discard(device: Device, remotes: Sequence[str]) -> None:
    """Remove files of a run that is over; a device that is gone removes them when it is back."""
    with suppress(DeviceError):
        device.remove(remotes)


def pack_agent(target: Path) -> None:
    """Zip the agent: the same bytes from the same sources, whatever the time and the machine."""
    sources = [PACKAGE / "__init__.py", *sorted((PACKAGE / "agent").rglob("*.py"))]
    content = {file.relative_to(PACKAGE.parent).as_posix(): file.read_bytes() for file in sources}
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in {"__main__.py": ENTRY.encode(), **content}.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, data)


def _run_agent(
    device: Device,
    argv: Sequence[str],
    timeout: float,
    on_event: Callable[[Event], None] | None,
) -> Event:
    last: list[Event] = []

    def on_line(line: str) -> None:
        event = read_event(line)
        if event is None:
            return
        if event["event"] in ("result", "error"):
            last.append(event)
        elif on_event is not None:
            on_event(event)

    try:
        said = device.run(argv, timeout, on_line)
    except DeviceError:
        if not last:
            raise
        said = ""
    return _result(device, last, said)


def _result(device: Device, last: Sequence[Event], said: str) -> Event:
    if not last:
        raise DeviceError(
            f"the agent on {device.name} ended without a result; expected a last line with one. "
            f"It said: {said.strip()[-300:] or 'nothing'}. Try again; edgekd doctor looks closer."
        )
    if last[-1]["event"] == "error":
        raise DeviceError(f"{device.name}: {last[-1]['message']}")
    return last[-1]


def read_event(line: str) -> Event | None:
    """One of the agent's lines; None where a library wrote to standard output."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
