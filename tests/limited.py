"""Two devices that differ in what they can do: this machine on one of its cores, and on two."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekd.boards import Connect
from edgekd.flow.boarding import Added, add
from tests.edge_env import Edge
from tests.sshd import CLIENT, Server, serving

NAMES = ("one", "two")
"""What the devices are called, for ``--device``; each has so many cores."""


def cores() -> list[int]:
    """A CPU of each core that the tests may use: hyper-threads of one core count once."""
    found: dict[str, int] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        shared = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        found.setdefault(shared.read_text() if shared.is_file() else str(cpu), cpu)
    return sorted(found.values())


needs_cores = pytest.mark.skipif(
    len(cores()) < len(NAMES) or shutil.which("taskset") is None,
    reason="no two cores here, or no taskset",
)


@dataclass(frozen=True)
class Limited:
    """Both devices, known by name, as they were added."""

    one: Edge
    two: Edge
    added: tuple[Added, ...]


@pytest.fixture(scope="module")
def limited(edge_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    """Two sshd, the first on one core and the second on two, added as devices."""
    folder = tmp_path_factory.mktemp("limited")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as kept:
        servers = []
        for number, name in enumerate(NAMES, 1):
            (folder / name).mkdir()
            servers.append(kept.enter_context(serving(folder / name, cores()[:number])))
        _use(servers, folder, patch)
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        one, two = edges = [Edge(server, edge_python) for server in servers]
        pairs = zip(NAMES, edges, strict=True)
        yield Limited(one, two, tuple(add(name, Connect(edge.address)) for name, edge in pairs))


def _use(servers: list[Server], folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Have ``ssh`` offer a key of each, and know all of them."""
    for server in servers:
        server.know(server.public("host"))
    known = " ".join(str(server.folder / "known_hosts") for server in servers)
    keys = "".join(f" IdentityFile {server.folder / 'mine'}\n" for server in servers)
    (folder / "ssh_config").write_text(
        f"Host *\n{keys} IdentitiesOnly yes\n IdentityAgent none\n"
        f" UserKnownHostsFile {known}\n GlobalKnownHostsFile /dev/null\n"
    )
    (folder / "bin").mkdir()
    script = f'#!/bin/sh\nexec {CLIENT} -F {shlex.quote(str(folder / "ssh_config"))} "$@"\n'
    (folder / "bin" / "ssh").write_text(script)
    (folder / "bin" / "ssh").chmod(0o755)
    patch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
