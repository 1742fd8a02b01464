"""Devices over ssh: against a real sshd on loopback, and its refusals as sentences."""

from __future__ import annotations

import getpass
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path

import pytest

import edgekd as package
from edgekd.devices import Device, describe, reach, ssh
from edgekd.devices._hosts import parse
from edgekd.devices._refusals import refusal
from edgekd.devices.local import Local
from edgekd.devices.ssh import FOLDER, KEEP, Ssh
from edgekd.errors import DeviceError, UnknownNameError, UsageError
from tests.cli.conftest import Command, edgekd
from tests.sshd import Server, needs_sshd, serving

__all__ = ["edgekd"]  # a fixture
TINY = run_path(str(Path(__file__).parent / "agent" / "tiny_models.py"))
ODD = 'it\'s "odd" $(touch x) `touch y` ; & * ~ # ä.txt'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """It knows my key, and I know its."""
    running.know(running.public("host"))
    running.use("mine", monkeypatch)
    running.commands()
    return running


# ---- the three verbs ----


@needs_sshd
def test_three_verbs(server: Server, tmp_path: Path) -> None:
    device: Device = Ssh(server.address)
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 1000)
    device.push(tmp_path / "a.bin", "0123/a.bin")
    assert [file.name for file in (server.home / FOLDER / "0123").iterdir()] == ["a.bin"]
    lines: list[str] = []
    show = "import sys; print(len(open(sys.argv[1], 'rb').read())); print('; exit 3')"
    said = device.run([sys.executable, "-c", show, "0123/a.bin"], 30, lines.append)
    assert said == "256000\n; exit 3\n"
    assert lines == ["256000\n", "; exit 3\n"]
    device.pull("0123/a.bin", tmp_path / "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()


@needs_sshd
def test_what_is_there_is_not_sent_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("content")
    Ssh(server.address).push(tmp_path / "a.txt", "4567/a.txt")
    assert sum("cat >" in command for command in server.commands()) == 1
    Ssh(server.address).push(tmp_path / "a.txt", "4567/a.txt")
    assert [command for command in server.commands() if "cat >" in command] == []


@needs_sshd
def test_what_nobody_uses_is_removed(server: Server, tmp_path: Path) -> None:
    device, there = Ssh(server.address), server.home / FOLDER
    (tmp_path / "a").write_text("a")
    for place in ("run-1/-x y$", "old/a", "used/a", "fresh/a", "old-job.json"):
        device.push(tmp_path / "a", place)
    long_ago = time.time() - 31 * 24 * 3600
    for place in ("old/a", "used/a", "old-job.json"):
        os.utime(there / place, (long_ago, long_ago))
    (there / "empty").mkdir()
    os.utime(there / "empty", (long_ago, long_ago))
    device.push(tmp_path / "a", "used/a")  # it is there: it is not sent, and it is used
    device.remove(["run-1/-x y$", "none/here"])
    left = {file.relative_to(there).as_posix() for file in there.rglob("*") if file.is_file()}
    assert {"used/a", "fresh/a"} <= left
    assert not left & {"old/a", "old-job.json", "run-1/-x y$"}
    assert not (there / "run-1").exists()
    assert not (there / "empty").exists()
    with pytest.raises(DeviceError, match="outside of the folder"):
        device.remove(["../a"])


def test_a_push_that_is_too_slow_is_not_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ssh").write_text(
        '#!/bin/sh\ncase "$*" in *"cat >"*) exec sleep 30;; *) exit 1;; esac\n'
    )
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(ssh, "PATIENCE", 0.5)
    (tmp_path / "a").write_text("a")
    with pytest.raises(DeviceError, match="so the link is slower than 20 kB/s or hangs") as caught:
        Ssh("me@there").push(tmp_path / "a", "0/a")
    assert "disk" not in str(caught.value)


@needs_sshd
def test_odd_names_and_arguments_are_taken_as_they_are(server: Server, tmp_path: Path) -> None:
    device = Ssh("edge")
    (tmp_path / ODD).write_text("odd")
    device.push(tmp_path / ODD, f"89ab/{ODD}")
    show = "import sys; print(open(sys.argv[1]).read(), *sys.argv[2:], sep='|')"
    odd = ["-x", "", "a b", "$HOME", "'", '"', "\\", "!", "new\nline"]
    said = device.run([sys.executable, "-c", show, f"89ab/{ODD}", *odd], 30)
    assert said == "|".join(["odd", *odd]) + "\n"
    device.pull(f"89ab/{ODD}", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "odd"
    assert not {"x", "y"} & {file.name for file in server.home.rglob("*")}


@needs_sshd
def test_one_connection_serves_all_and_ends_with_the_device(server: Server) -> None:
    device = Ssh(server.address)
    for _ in range(3):
        device.run(["true"], 30)
    log = server.folder / "log"
    before = log.read_text().count("Accepted publickey")
    private = Path(next(o for o in device._ssh if "ControlPath" in o).partition("=")[2]).parent
    assert private.stat().st_mode & 0o077 == 0
    device.run(["true"], 30)
    assert log.read_text().count("Accepted publickey") == before
    del device
    assert not private.exists()


@needs_sshd
def test_paths_stay_inside(server: Server, tmp_path: Path) -> None:
    device = Ssh(server.address)
    (tmp_path / "a").write_text("")
    for remote in ("../a", "/a", "b/../../a", ""):
        with pytest.raises(DeviceError, match="outside of the folder"):
            device.push(tmp_path / "a", remote)
    with pytest.raises(DeviceError, match=r"there is no file .*none to send"):
        device.push(tmp_path / "none", "a")
    with pytest.raises(DeviceError, match=r"there is no b on ssh://.* to fetch"):
        device.pull("b", tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert server.commands()[:-1] == []  # only the last one had to ask


def test_a_file_that_was_cut_on_the_way_is_not_kept(tmp_path: Path) -> None:
    target, part = tmp_path / "deep" / "a", tmp_path / "deep" / "a.part"
    arguments = ["sh", "-c", KEEP, "sh", str(target), str(part)]
    assert subprocess.run([*arguments, "10"], input=b"12345", check=False).returncode == 1
    assert list((tmp_path / "deep").iterdir()) == []
    assert subprocess.run([*arguments, "5"], input=b"12345", check=False).returncode == 0
    assert target.read_bytes() == b"12345"


# ---- how programs end ----


@needs_sshd
def test_how_programs_end(server: Server, tmp_path: Path) -> None:
    device = Ssh(server.address)
    (tmp_path / "a").write_text("")
    device.push(tmp_path / "a", "a")
    with pytest.raises(DeviceError, match=r"sh ended with exit code 7\. It said: no luck"):
        device.run(["sh", "-c", "echo no luck >&2; exit 7"], 30)
    with pytest.raises(DeviceError, match=r"no-python cannot be run on ssh.*/path/of/python"):
        device.run(["no-python"], 30)
    with pytest.raises(DeviceError, match=r"still running on ssh.* after 0\.5 s and was left"):
        device.run(["cat"], 0.5)
    for code in ("kill -9 $$", "exit 137"):  # ssh's words for it, and a shell's
        with pytest.raises(DeviceError, match="ended by a signal, most likely because its memory"):
            device.run(["sh", "-c", code], 30)
    with pytest.raises(DeviceError, match="the connection was lost on the way"):
        device.run(["sh", "-c", "kill -9 $PPID"], 30)  # its parent is what sshd started for us
    assert device.run(["echo", "again"], 30) == "again\n"


@needs_sshd
def test_what_runs_there_ends_with_whoever_started_it(server: Server) -> None:
    """The agent's promise: a killed edgekd leaves nothing behind on the device."""
    wait = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
    code = (
        "from edgekd.devices.ssh import Ssh\n"
        f"Ssh({server.address!r}).run([{sys.executable!r}, '-c', {wait!r}], 60, "
        "lambda line: print(line, end='', flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(package.__file__).parents[1],
    ) as started:
        assert started.stdout is not None
        there = int(started.stdout.readline())
        os.kill(there, 0)  # it is alive
        started.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while time.monotonic() < until and _alive(there):
        time.sleep(0.05)
    assert not _alive(there)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# ---- a whole measurement ----


@needs_sshd
def test_a_model_is_measured_over_ssh(server: Server, tmp_path: Path, edgekd: Command) -> None:
    model = TINY["classifier"](tmp_path / "tiny.onnx")
    where = f"{server.address}{sys.executable}"
    answer = edgekd("profile", model, "--device", where, "--max-seconds", "0.5", "--json")
    assert answer.code == 0, answer.err
    (record,) = json.loads(answer.out)
    assert record["device"]["profile"] == server.address
    assert record["timing"]["n"] > 1
    kept = {file.name for file in (server.home / FOLDER).rglob("*") if file.is_file()}
    assert "tiny.onnx" in kept
    assert any(name.endswith("-agent.zip") for name in kept)
    assert not [name for name in kept if name.endswith(("job.json", ".npy"))]
    assert not list((server.home / FOLDER).glob("run-*"))


@needs_sshd
def test_a_device_says_what_it_is(server: Server) -> None:
    found = describe(reach(f"{server.address}{sys.executable}"))
    assert found["machine"] == os.uname().machine
    assert found["ram_bytes"] > 0


# ---- refusals ----


@needs_sshd
def test_an_unknown_host_is_refused(server: Server, tmp_path: Path) -> None:
    server.know(None)
    (tmp_path / "a").write_text("")
    words = rf"host key is not known yet.*ssh -p {server.port} -l {getpass.getuser()} 127\.0\.0\.1"
    with pytest.raises(DeviceError, match=words):
        Ssh(server.address).push(tmp_path / "a", "a")
    assert server.commands() == []
    assert (server.folder / "known_hosts").read_text() == ""


@needs_sshd
def test_a_changed_host_is_refused(server: Server) -> None:
    server.know(server.public("another"))
    with pytest.raises(DeviceError, match=r"host key is not the one that was known.*ssh-keygen -R"):
        Ssh(server.address).run(["true"], 30)
    assert server.commands() == []


@needs_sshd
def test_a_key_it_does_not_accept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.use("another", monkeypatch)
    with pytest.raises(DeviceError, match=r"does not accept any key of yours.*ssh-copy-id"):
        Ssh(server.address).pull("a", server.folder / "a")
    assert not (server.folder / "a").exists()


@needs_sshd
def test_nothing_listens(server: Server) -> None:
    with pytest.raises(DeviceError, match=r"nothing listens there.*Connection refused"):
        Ssh("ssh://127.0.0.1:1").run(["true"], 30)


def test_no_ssh_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a").write_text("")
    with pytest.raises(DeviceError, match=r"ssh cannot be run here.*Install OpenSSH's client"):
        Ssh("me@there").push(tmp_path / "a", "a")
    with pytest.raises(UnknownNameError):
        reach("edge")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("ssh: Could not resolve hostname pi: Name or service not known", "no host of this name"),
        ("ssh: connect to host pi port 22: No route to host", "cannot be reached.*ssh me@pi true"),
        ("Timeout, server pi not responding.", "connection was lost.*not responding"),
        ("kex_exchange_identification: read: Connection reset by peer", "cannot be reached"),
        ("config: line 3: Bad configuration option: sparkle", "refuses its own configuration"),
        ("", "connection was lost.*ssh said: nothing"),
    ],
)
def test_what_ssh_says(said: str, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        raise DeviceError(refusal(said, "pi", "ssh me@pi"))


# ---- names ----


@needs_sshd
def test_names_are_reached(server: Server) -> None:
    assert isinstance(reach("local"), Local)
    there = reach("edge")  # a Host of the configuration
    assert (there.name, there.python) == ("ssh://edge", "python3")
    assert isinstance(there, Ssh)
    with pytest.raises(UnknownNameError, match=r"no device 'edgy'.*There are: local, ssh://user@"):
        reach("edgy")


@pytest.mark.parametrize("name", ["ssh", "pi", "-oProxyCommand=touch x", "a b", "", "../local"])
def test_names_that_are_no_device(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match="there is no device"):
        reach(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "arguments", "name", "python"),
    [
        ("pi", ["--", "pi"], "ssh://pi", None),
        ("me@pi.lan", ["-l", "me", "--", "pi.lan"], "ssh://me@pi.lan", None),
        ("ssh://Pi:22", ["-p", "22", "--", "Pi"], "ssh://Pi:22", None),
        (
            "ssh://me@pi/opt/v/bin/python",
            ["-l", "me", "--", "pi"],
            "ssh://me@pi",
            "/opt/v/bin/python",
        ),
        (
            "ssh://[fe80::1%eth0]:2222",
            ["-p", "2222", "--", "fe80::1%eth0"],
            "ssh://[fe80::1%eth0]:2222",
            None,
        ),
    ],
)
def test_addresses(address: str, arguments: list[str], name: str, python: str | None) -> None:
    host = parse(address)
    assert (host.arguments, str(host), host.python) == (arguments, name, python)


@pytest.mark.parametrize(
    "address",
    [
        "ssh://",
        "ssh://-oProxyCommand=touch@pi",
        "ssh://me@-pi",
        "ssh://me:secret@pi",
        "ssh://pi:port",
        "ssh://pi:0",
        "ssh://pi:70000",
        "me@pi:22",
        "me@pi/bin/python",
        "a@b@c",
        "me@p i",
    ],
)
def test_addresses_that_cannot_be_read(address: str) -> None:
    with pytest.raises(UsageError, match=r"expected (ssh://user@host:port|1 to 65535)"):
        reach(address)
