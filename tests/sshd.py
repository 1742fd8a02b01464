"""A real sshd on loopback, with keys, known hosts and a home folder of its own; all in one folder.

Debian: ``apt-get install --no-install-recommends openssh-server openssh-client``.
"""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
SSHD = shutil.which("sshd", path=SBIN)
CLIENT = shutil.which("ssh")
needs_sshd = pytest.mark.skipif(
    SSHD is None or CLIENT is None or shutil.which("ssh-keygen") is None,
    reason="no OpenSSH server and client here",
)


@dataclass(frozen=True)
class Server:
    """Where it listens, and the files it lives from."""

    folder: Path
    port: int

    @property
    def home(self) -> Path:
        """Where commands start, in place of the home folder of whoever runs the tests."""
        return self.folder / "home"

    @property
    def address(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def commands(self) -> list[str]:
        """What it was asked to run, since the last time this was asked."""
        log = self.folder / "commands"
        said = log.read_text().split("\0")[:-1] if log.exists() else []
        log.unlink(missing_ok=True)
        return said

    def know(self, key: str | None) -> None:
        """Write the known hosts: with a public key for this server, or none."""
        line = "" if key is None else f"[127.0.0.1]:{self.port} {' '.join(key.split()[:2])}\n"
        (self.folder / "known_hosts").write_text(line)

    def public(self, name: str) -> str:
        return (self.folder / f"{name}.pub").read_text()

    def use(self, key: str, patch: pytest.MonkeyPatch) -> None:
        """Have ``ssh`` read the configuration in this folder, and offer a key of it."""
        config, wrapped = self.folder / f"config-{key}", self.folder / f"bin-{key}"
        config.write_text(
            f"Host edge\n HostName 127.0.0.1\n Port {self.port}\n User {getpass.getuser()}\n"
            f"Host *\n IdentityFile {self.folder / key}\n IdentitiesOnly yes\n IdentityAgent none\n"
            f" UserKnownHostsFile {self.folder / 'known_hosts'}\n GlobalKnownHostsFile /dev/null\n"
        )
        wrapped.mkdir(exist_ok=True)
        script = f'#!/bin/sh\nexec {CLIENT} -F {shlex.quote(str(config))} "$@"\n'
        (wrapped / "ssh").write_text(script)
        (wrapped / "ssh").chmod(0o755)
        patch.setenv("PATH", f"{wrapped}:{os.environ['PATH']}")


@contextmanager
def serving(folder: Path, cpus: Sequence[int] = ()) -> Iterator[Server]:
    """Start a server that lives as long as the block does; it, and all it starts, on some CPUs."""
    assert SSHD is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = Server(folder, free.getsockname()[1])
    for key in ("host", "mine", "another"):
        made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(made, check=True)
    _write_files(server)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # Debian's refuses to start as root without it
    with (folder / "log").open("wb") as log:
        started = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
        if cpus:
            started = ["taskset", "-c", ",".join(map(str, cpus)), *started]
        process = subprocess.Popen(started, stderr=log)
    try:
        _wait(server, process)
        yield server
    finally:
        process.terminate()
        process.wait()


def _write_files(server: Server) -> None:
    folder = server.folder
    server.home.mkdir()
    (folder / "authorized_keys").write_text(server.public("mine"))
    (folder / "authorized_keys").chmod(0o600)
    enter = folder / "enter"
    enter.write_text(
        f"#!/bin/sh\nprintf '%s\\0' \"$SSH_ORIGINAL_COMMAND\" >> {folder}/commands\n"
        f'cd {server.home} && HOME={server.home} exec sh -c "exec $SSH_ORIGINAL_COMMAND"\n'
    )
    enter.chmod(0o755)
    (folder / "sshd_config").write_text(
        f"Port {server.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nForceCommand {enter}\nStrictModes no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n"
        "PermitRootLogin prohibit-password\n"
    )


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    """Until it takes connections."""
    until = time.monotonic() + 10
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", server.port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(f"sshd did not start: {(server.folder / 'log').read_text()}")
