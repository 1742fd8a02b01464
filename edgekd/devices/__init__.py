"""Devices: ways to reach a machine, in three verbs; and the agent's journey there and back."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from edgekd.errors import DeviceError

Event = dict[str, Any]
PACKAGE = Path(__file__).parents[1]
OLDEST_PYTHON = (3, 8)

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
) -> Event:
    """Send the agent, a job and its files to a device, run it there, and bring back its result.

    Args:
        device: where.
        job: the agent's job; it names files by their address.
        files: address -> the file here.
        timeout: seconds for the whole run.
        on_event: called with every event but the last, as it happens.

    Raises:
        DeviceError: the device or the agent refused; the message is the agent's own where it
            gave one.
    """
    for remote, local in files.items():
        device.push(local, remote)
    with tempfile.TemporaryDirectory(prefix="edgekd-") as folder:
        agent, work = Path(folder) / "agent.zip", Path(folder) / "job.json"
        pack_agent(agent)
        work.write_text(json.dumps({**job, "exit_with_stdin": True}, sort_keys=True), "utf-8")
        zipped, ordered = (
            f"{address(file).partition('/')[0]}-{file.name}" for file in (agent, work)
        )
        device.push(agent, zipped)
        device.push(work, ordered)
    return _run_agent(device, [device.python, zipped, ordered], timeout, on_event)


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
