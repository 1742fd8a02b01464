"""Devices: ways to reach a machine, in a few verbs; and the agent's journey there and back."""

from __future__ import annotations

import getpass
import hashlib
import json
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from edgekd import plugins
from edgekd.boards import Connect, has_board, own_boards, read_board
from edgekd.devices._device import Device as Device
from edgekd.devices._device import Event as Event
from edgekd.devices._following import Following
from edgekd.devices._hosts import configured
from edgekd.devices._packing import pack_agent as pack_agent
from edgekd.errors import DeviceError, UnknownNameError, UsageError
from edgekd.hiding import stranger
from edgekd.plain import one_line
from edgekd.scratch import temporary

AGENT = 2  # the version of the agent's job that is written here
PATIENCE_S = 240.0
"""How long a lost link is waited for, as a small board takes two minutes to start again."""
MARGIN_S = 30.0
"""The agent ends a run whose time is up; where that does not happen, this much later so does this
side."""
LONGEST = 800
"""Characters of what an agent says went wrong."""
RUN = "run-"
LEAVINGS = ("events.jsonl", "worker.json", "said")
"""What the agent keeps of a run, in a folder of the run's name."""


def reach(name: str) -> Device:
    """The device of a name.

    Args:
        name: one of ``edgekd device list``, ``local``, an address such as
            ``ssh://user@host:port/path/of/python``, ``user@host`` or ``adb://SERIAL``, or a
            ``Host`` of the user's ssh configuration.

    Raises:
        UnknownNameError: it is none of these.
        UsageError: the address cannot be read, or it is a kind of board and not one that is there,
            or what another machine hides in an artifact.
    """
    if wrong := stranger(name, "the device", "Name one with --device, such as local."):
        raise UsageError(wrong)
    if not has_board(name):
        return device_at(Connect(name))
    connect = read_board(name).connect
    if not connect.address:
        raise UsageError(
            f"{name} is a kind of board, and nothing says where yours is. Add it: "
            f"edgekd device add NAME user@host --profile {name}"
        )
    return device_at(connect, name)


def device_at(connect: Connect, name: str = "") -> Device:
    """The device at an address; its own name is what records call it unless another is given.

    Raises:
        UnknownNameError: it is no address.
        UsageError: the address cannot be read.
    """
    address, more = connect.address, (name, connect.python, connect.folder)
    if address == "local":
        return cast("Device", plugins.load("device", "local")(address, *more))
    if address.startswith("adb://"):
        return cast("Device", plugins.load("device", "adb")(address, *more))
    if address.startswith("ssh://") or "@" in address or configured(address):
        return cast("Device", plugins.load("device", "ssh")(address, *more))
    expected = (*own_boards(), "local", "ssh://user@host:port", "user@host", "adb://SERIAL")
    raise UnknownNameError("device", address, (*expected, "a Host of ~/.ssh/config"))


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
    patience: float = PATIENCE_S,
) -> Event:
    """Send the agent, a job and its files to a device, run it there, and bring back its result.

    The agent and ``files`` stay there, so that they need not be sent again; the job and ``passing``
    are removed, however the run ended. The run goes on there while the link is cut, and is taken
    up again without the loss of an event when the link is back.

    Args:
        device: where.
        job: the agent's job; it names files by their address.
        files: address -> the file here.
        timeout: seconds for the whole run, without those it waits for its turn.
        on_event: called with every event but the last, as it happens, with notes on the link, and
            with a ``beat`` where nothing is said for half a second; what it raises ends the run.
        passing: files for this run alone, such as images; their addresses are :func:`unshared`.
        patience: seconds to wait for a link that was lost.

    Raises:
        LinkError: the link was lost for too long.
        DeviceError: the device or the agent refused; the message is the agent's own where it
            gave one.
    """
    passing = passing or {}
    # at the top of the folder, as its paths are relative to where it lies
    run = f"{RUN}{secrets.token_hex(8)}"
    ordered = f"{run}-job.json"
    limits = {"limit_s": timeout, "alone_s": device.alone_s, "owner": _owner()}
    left: list[str] = []  # nothing, on a device that never answered
    waiting = float((job.get("policy") or {}).get("wait_s") or 0.0)
    try:
        with temporary() as folder:
            agent, work = folder / "agent.zip", folder / "job.json"
            pack_agent(agent)
            work.write_text(json.dumps({**job, **limits}, sort_keys=True), "utf-8")
            zipped = f"{address(agent).partition('/')[0]}-{agent.name}"
            whole = {**files, **passing, zipped: agent}
            lacking = device.missing({at: file.stat().st_size for at, file in whole.items()})
            left = [ordered, *(f"{run}/{name}" for name in LEAVINGS), *passing]
            for remote in lacking:
                device.push(whole[remote], remote)
            device.push(work, ordered)
        command, all_s = [device.python, zipped], timeout + waiting + MARGIN_S
        task = str(job.get("task") or "")
        last = Following(device, command, ordered, all_s, patience, on_event, task).follow()
    finally:
        if left:
            discard(device, left)
    if last["event"] == "error":
        raise DeviceError(f"{device.name}: {one_line(last['message'], LONGEST)}")
    return last


def _owner() -> str:
    """Who asks, for others who want the same device."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def unshared(path: Path) -> str:
    """Where a file for one run goes on a device: no other run reads it, so it can be removed."""
    return f"{RUN}{secrets.token_hex(8)}/{path.name}"


def discard(device: Device, remotes: Sequence[str]) -> None:
    """Remove files of a run that is over; a device that is gone removes them when it is back."""
    with suppress(DeviceError):
        device.remove(remotes)
