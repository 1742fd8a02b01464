"""Devices over ssh: against a real sshd on loopback, and its refusals as sentences."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from runpy import run_path

import pytest

import edgekd as package
from edgekd.agent import locking, turns
from edgekd.devices import Device, _posix, describe, reach, ship
from edgekd.devices._hosts import parse
from edgekd.devices._posix import Posix
from edgekd.devices._refusals import refusal
from edgekd.devices._scripts import CLEAR, IN_USE, KEEP, NO_ROOM
from edgekd.devices.local import Local
from edgekd.devices.ssh import FOLDER, over_ssh
from edgekd.errors import DeviceError, UnknownNameError, UsageError
from tests.bad_input.table import unprintable
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
    device: Device = over_ssh(server.address)
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 1000)
    device.push(tmp_path / "a.bin", "0123/a.bin")
    assert [file.name for file in (server.home / FOLDER / "0123").iterdir()] == ["a.bin"]
    lines: list[str] = []
    show = "import sys; print(len(open(sys.argv[1], 'rb').read())); print('; exit 3')"
    said = device.run([sys.executable, "-c", show, "0123/a.bin"], 30, lines.append)
    assert said == "256000\n; exit 3\n"
    assert [line for line in lines if line] == ["256000\n", "; exit 3\n"]
    device.pull("0123/a.bin", tmp_path / "b.bin", 2**20)
    assert (tmp_path / "b.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()


@needs_sshd
def test_what_is_there_is_not_sent_again(server: Server, tmp_path: Path) -> None:
    sent = {f"0123/{name}": tmp_path / name for name in (ODD, "b.txt")}
    for file in sent.values():
        file.write_text("content")
    job = {"agent": 2, "task": "describe"}
    for expected in (4, 1):  # two files, the agent and the job; then the job
        ship(reach(f"{server.address}{sys.executable}"), job, sent, 60)
        commands = server.commands()
        assert sum("cat >" in command for command in commands) == expected
    assert len(commands) == 4  # what is missing, the job, the run, and the job is removed
    sizes = {"0123/b.txt": 7, "none": 7, "0123": 7, f"0123/{ODD}": 8}
    assert over_ssh(server.address).missing(sizes) == ["none", "0123", f"0123/{ODD}"]


@needs_sshd
def test_an_agent_that_was_cut_short_is_sent_again(server: Server) -> None:
    """As a power cut may leave it, under its name."""
    device = over_ssh(f"{server.address}{sys.executable}")
    describe(device)
    (zipped,) = (server.home / FOLDER).glob("*-agent.zip")
    whole = zipped.read_bytes()
    zipped.write_bytes(whole[:1000])
    describe(device)
    assert zipped.read_bytes() == whole


@needs_sshd
def test_a_shell_that_talks(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_posix, "HAS", "echo welcome")
    with pytest.raises(DeviceError, match=r"said 'welcome\\n' where only numbers .* expected"):
        over_ssh(server.address).missing({"a": 1})


LONG_AGO = time.time() - 31 * 24 * 3600
OLD, USED, FRESH = (number * 16 for number in "0ab")
RUN = f"run-{'9' * 16}"


def aged(*paths: Path) -> None:
    """Files, made where there are none, that nobody used for long; the last ones' folders too."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for path in [each for file in paths for each in (file, file.parent)]:
        os.utime(path, (LONG_AGO, LONG_AGO))


@needs_sshd
def test_what_nobody_uses_is_removed(server: Server, tmp_path: Path) -> None:
    device, there = over_ssh(server.address), server.home / FOLDER
    (tmp_path / "a").write_text("a" * 5000)
    for place in (f"{RUN}/-x y$", f"{OLD}/a", f"{USED}/a", f"{FRESH}/a"):
        device.push(tmp_path / "a", place)
    stay = ["venv-0123456789ab/python", ".edgekd", "edgekd.lock", f"{USED}/a"]
    go = [f"{OLD}/a", f"{RUN}-job.json", f"{OLD}-agent.zip", f"{OLD}-agent.zip.01234567.part"]
    aged(there / ".edgekd-venv-x" / "python", *(there / place for place in [*stay, *go]))
    (there / ("c" * 16)).mkdir()
    os.utime(there / ("c" * 16), (LONG_AGO, LONG_AGO))
    assert device.missing({f"{USED}/a": 5000}) == []  # which says that it is used
    device.remove([f"{RUN}/-x y$", "none/here"])
    left = {file.relative_to(there).as_posix() for file in there.rglob("*") if file.is_file()}
    assert {*stay, f"{FRESH}/a"} <= left
    assert not left & {*go, f"{RUN}/-x y$"}
    for gone in (RUN, "c" * 16, ".edgekd-venv-x"):
        assert not (there / gone).exists()
    with pytest.raises(DeviceError, match="outside of the folder"):
        device.remove(["../a"])


@needs_sshd
def test_nothing_is_old_while_a_run_lives(server: Server) -> None:
    """The clock of a board without a battery is set by years, once it is told the time."""
    device, there = over_ssh(server.address), server.home / FOLDER
    files = [there / place for place in (f"{RUN}/events.jsonl", f"{RUN}-job.json", f"{OLD}/a")]
    aged(*files)
    with files[0].open() as events:
        fcntl.flock(events, fcntl.LOCK_EX)
        device.remove([])
        assert all(file.is_file() for file in files)
    device.remove([])
    assert not any(file.exists() for file in files)


@needs_sshd
def test_what_is_not_edgekds_stays_however_old(server: Server, tmp_path: Path) -> None:
    place = tmp_path / "work"
    mine = [
        place / name for name in ("thesis.tex", "docs/photo.jpg", ".hidden", "run-1/a", "b.part")
    ]
    aged(*mine, place / OLD / "a", place / "empty" / "a")
    (place / "empty" / "a").unlink()
    os.utime(place / "empty", (LONG_AGO, LONG_AGO))
    (place / FRESH).symlink_to(place / "docs")
    over_ssh(server.address, folder=str(place)).remove([])
    assert all(path.is_file() for path in mine)
    assert (place / "empty").is_dir()
    assert not (place / OLD / "a").exists()


@needs_sshd
def test_the_home_folder_there_is_refused_whatever_leads_to_it(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(server.home)
    (tmp_path / "root").symlink_to("/")
    (tmp_path / "a").write_text("a")
    aged(server.home / OLD / "keys")
    for folder in (server.home, server.home.parent, tmp_path / "link", tmp_path / "root"):
        device = over_ssh(server.address, folder=str(folder))
        words = "is the home folder there, or holds it; expected one for edgekd alone"
        for verb in (
            partial(device.push, tmp_path / "a", f"{OLD}/a"),
            partial(device.run, ["true"], 30),
            partial(device.remove, [f"{OLD}/keys"]),
            device.clear,
        ):
            with pytest.raises(DeviceError, match=words):
                verb()
    assert (server.home / OLD / "keys").is_file()


def test_a_push_that_is_too_slow_is_not_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake(tmp_path, 'case "$*" in *"cat >"*) exec sleep 30;; *) exit 1;; esac', monkeypatch)
    monkeypatch.setattr(_posix, "PATIENCE", 0.5)
    (tmp_path / "a").write_text("a")
    with pytest.raises(DeviceError, match="so the link is slower than 20 kB/s or hangs") as caught:
        over_ssh("me@there").push(tmp_path / "a", "0/a")
    assert "disk" not in str(caught.value)


def _fake(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script in place of ssh."""
    (folder / "ssh").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("script", ["exec sleep 25", "sleep 25"])
def test_a_link_that_hangs_is_not_waited_for_twice(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child of ssh's may hold its pipes when it is gone; what never answered is not cleaned."""
    _fake(tmp_path, f"echo >> {tmp_path}/asked\n{script}", monkeypatch)
    monkeypatch.setattr(_posix, "PATIENCE", 1.5)
    began = time.monotonic()
    with pytest.raises(DeviceError, match=r"ssh://u@h did not answer within 1.5 s: .* See that it"):
        describe(reach("ssh://u@h"))
    assert time.monotonic() - began < 6
    assert (tmp_path / "asked").read_text() == "\n"


def test_who_asks_to_stop_does_not_wait_for_a_link_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake(tmp_path, f"echo >> {tmp_path}/asked\nsleep 40", monkeypatch)
    command = [sys.executable, "-m", "edgekd", "device", "doctor", "ssh://u@h"]
    with (tmp_path / "said").open("w") as said, subprocess.Popen(command, stderr=said) as process:
        while not (tmp_path / "asked").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 128 + signal.SIGTERM
    asking, stopped = (tmp_path / "said").read_text().split("\n\n")
    assert asking.startswith("Asking ssh://u@h what it has")
    assert stopped.strip() == "edgekd: stopped."


def test_a_name_is_asked_for_without_waiting_for_what_ssh_leaves_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake(tmp_path, "echo hostname 10.0.0.1; sleep 8 & exit 0", monkeypatch)
    began = time.monotonic()
    assert reach("edge").name == "ssh://edge"
    assert time.monotonic() - began < 6


@needs_sshd
def test_odd_names_and_arguments_are_taken_as_they_are(server: Server, tmp_path: Path) -> None:
    device = over_ssh("edge")
    (tmp_path / ODD).write_text("odd")
    device.push(tmp_path / ODD, f"89ab/{ODD}")
    show = "import sys; print(open(sys.argv[1]).read(), *sys.argv[2:], sep='|')"
    odd = ["-x", "", "a b", "$HOME", "'", '"', "\\", "!", "new\nline"]
    said = device.run([sys.executable, "-c", show, f"89ab/{ODD}", *odd], 30)
    assert said == "|".join(["odd", *odd]) + "\n"
    device.pull(f"89ab/{ODD}", tmp_path / "back", 2**20)
    assert (tmp_path / "back").read_text() == "odd"
    assert not {"x", "y"} & {file.name for file in server.home.rglob("*")}


@needs_sshd
def test_one_connection_serves_all_and_ends_with_the_device(server: Server) -> None:
    device = over_ssh(server.address)
    for _ in range(3):
        device.run(["true"], 30)
    log = server.folder / "log"
    before = log.read_text().count("Accepted publickey")
    private = next(Path(o.partition("=")[2]).parent for o in device.link.command() if "Path=" in o)
    assert private.stat().st_mode & 0o077 == 0
    device.run(["true"], 30)
    assert log.read_text().count("Accepted publickey") == before
    del device
    assert not private.exists()


@needs_sshd
def test_paths_stay_inside(server: Server, tmp_path: Path) -> None:
    device = over_ssh(server.address)
    (tmp_path / "a").write_text("")
    for remote in ("../a", "/a", "b/../../a", ""):
        with pytest.raises(DeviceError, match="outside of the folder"):
            device.push(tmp_path / "a", remote)
    with pytest.raises(DeviceError, match=r"there is no file .*none to send"):
        device.push(tmp_path / "none", "a")
    with pytest.raises(DeviceError, match=r"there is no b on ssh://.* to fetch"):
        device.pull("b", tmp_path / "b", 2**20)
    assert not (tmp_path / "b").exists()
    assert server.commands()[:-1] == []  # only the last one had to ask


def test_a_file_that_was_cut_on_the_way_is_not_kept(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a"
    arguments = ["sh", "-c", KEEP, "sh", str(tmp_path), "./deep/a", "./deep/a.part"]
    assert subprocess.run([*arguments, "10"], input=b"12345", check=False).returncode == NO_ROOM
    assert list((tmp_path / "deep").iterdir()) == []
    assert subprocess.run([*arguments, "5"], input=b"12345", check=False).returncode == 0
    assert target.read_bytes() == b"12345"


@needs_sshd
@pytest.mark.parametrize("absolute", [False, True])
def test_a_folder_of_ones_own(server: Server, tmp_path: Path, absolute: bool) -> None:
    place = tmp_path / "there" if absolute else server.home / "own" / "folder"
    device = over_ssh(server.address, folder=str(place) if absolute else "~/own/folder")
    (tmp_path / "a").write_text("a")
    device.push(tmp_path / "a", "0123456789abcdef/a")
    assert (place / "0123456789abcdef/a").read_text() == "a"
    assert device.run(["cat", "0123456789abcdef/a"], 30) == "a"
    device.clear()
    assert not place.exists()
    assert place.parent.exists()


@needs_sshd
def test_of_a_folder_that_was_there_only_edgekds_own_goes(server: Server, tmp_path: Path) -> None:
    place = tmp_path / "there"
    (place / "run-away").mkdir(parents=True)
    device = over_ssh(server.address, folder=str(place))
    for name in (
        "lock",
        "edgekd.lock",
        "venv-0123456789ab/bin/python",
        ".edgekd-venv-x/bin/python",
        "run-0123456789abcdef/said",
    ):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("")
    device.clear(environments=False)
    left = {"run-away", "lock", "venv-0123456789ab"}
    assert {path.name for path in place.iterdir()} == left
    device.clear()
    assert {path.name for path in place.iterdir()} == {"run-away", "lock"}


@needs_sshd
def test_a_run_that_lives_is_not_cleared(server: Server) -> None:
    device, there = over_ssh(server.address), server.home / FOLDER
    device.run(["mkdir", "-p", OLD], 30)
    job = {"owner": "her@desk", "limit_s": 90.0, "models": [{"name": "tiny"}]}
    with turns.take_turn(there, job, lambda _: None):
        words = (
            r"her@desk has been using .*for [0-9] s \(profile tiny\), for .* Nothing was removed"
        )
        with pytest.raises(DeviceError, match=words):
            device.clear()
        assert (there / OLD).is_dir()
    waiting = there / "run-0123456789abcdef" / "events.jsonl"
    waiting.parent.mkdir()
    with waiting.open("w") as file:  # it waits in line: the device's lock is not its own
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DeviceError, match=r"somebody is using .* Nothing was removed"):
            device.clear()
        assert (there / OLD).is_dir()
    device.clear()
    assert not there.exists()


def test_who_holds_a_device_is_asked_without_flock_too(tmp_path: Path) -> None:
    """As on a Mac."""
    (tmp_path / "bin").mkdir()
    for name in ("cat", "sleep", "rm", "ls", "sh"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    place = tmp_path / "there"
    place.mkdir()
    command = [str(tmp_path / "bin/sh"), "-c", CLEAR, "sh", str(place), sys.executable, "yes"]
    bare = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "bin")}
    with turns.take_turn(place, {"owner": "her@desk"}, lambda _: None):
        done = subprocess.run(command, env=bare, capture_output=True, text=True, check=False)
        assert done.returncode == IN_USE
        assert "her@desk" in done.stdout
        assert (place / turns.LOCK).is_file()
    subprocess.run(command, env=bare, check=True)
    assert list(place.iterdir()) == []


@needs_sshd
def test_clocks_that_a_dead_run_left_fixed_are_set_back_first(
    server: Server, tmp_path: Path
) -> None:
    place = "~/clocks"  # other tests leave files in the usual one
    device = over_ssh(f"{server.address}{sys.executable}", folder=place)
    kept = server.home / locking.FOLDER / locking.FILE
    governor = tmp_path / "scaling_governor"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    state = {"pid": 4_000_000, "born": "7", "boot": boot, "governors": {str(governor): "ondemand"}}
    for python, now in (("/no/python", "performance"), (sys.executable, "ondemand")):
        describe(device)  # so that the agent is there
        governor.write_text("performance")
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(state))
        over_ssh(server.address, python=python, folder=place).clear()
        assert not (server.home / "clocks").exists()
        assert governor.read_text() == now
        assert kept.exists() == (now == "performance")  # else the next run finds it


# ---- how programs end ----


@needs_sshd
def test_how_programs_end(server: Server, tmp_path: Path) -> None:
    device = over_ssh(server.address)
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
        "from edgekd.devices.ssh import over_ssh\n"
        f"over_ssh({server.address!r}).run([{sys.executable!r}, '-c', {wait!r}], 60, "
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
    before = {*(server.home / FOLDER).glob("run-*")}  # of other tests, on the same server
    answer = edgekd("profile", model, "--device", where, "--max-seconds", "0.5", "--json")
    assert answer.code == 0, answer.err
    (record,) = json.loads(answer.out)
    assert record["device"]["profile"] == server.address
    assert record["timing"]["n"] > 1
    kept = {file.name for file in (server.home / FOLDER).rglob("*") if file.is_file()}
    assert "tiny.onnx" in kept
    assert any(name.endswith("-agent.zip") for name in kept)
    assert not [name for name in kept if name.endswith(("job.json", ".jsonl", "worker.json"))]
    assert {*(server.home / FOLDER).glob("run-*")} == before


@needs_sshd
def test_a_file_that_is_larger_than_it_was_said_to_be(server: Server, tmp_path: Path) -> None:
    device = over_ssh(server.address)
    (tmp_path / "a").write_bytes(bytes(1000))
    device.push(tmp_path / "a", "a")
    with pytest.raises(DeviceError, match="said more than anything edgekd runs there would say"):
        device.pull("a", tmp_path / "b", 999)
    assert not (tmp_path / "b").exists()
    device.pull("a", tmp_path / "b", 1000)


@needs_sshd
def test_a_model_may_be_called_anything(server: Server, tmp_path: Path, edgekd: Command) -> None:
    """From the command line to the runtime there and back, nothing of its name is obeyed."""
    name = "-rf $(touch canary) `touch canary` '; touch canary; \"\\ \n\x1b[2J\u202e.onnx"
    model = TINY["classifier"](tmp_path / "m.onnx").rename(tmp_path / name)
    address = f"{server.address}{sys.executable}"
    answer = edgekd("profile", model, "--device", address, "--max-seconds", "0.3")
    assert answer.code == 0, answer.err
    assert not unprintable(answer.out + answer.err)
    assert "\\x1b[2J\\u202e.onnx" in "".join(answer.out.split())
    there = [file.name for file in server.home.rglob("*")]
    assert name in there
    assert "canary" not in [*there, *(file.name for file in tmp_path.rglob("*"))]


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
        over_ssh(server.address).push(tmp_path / "a", "a")
    assert server.commands() == []
    assert (server.folder / "known_hosts").read_text() == ""


@needs_sshd
def test_a_changed_host_is_refused(server: Server) -> None:
    server.know(server.public("another"))
    with pytest.raises(DeviceError, match=r"host key is not the one that was known.*ssh-keygen -R"):
        over_ssh(server.address).run(["true"], 30)
    assert server.commands() == []


@needs_sshd
def test_a_key_it_does_not_accept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.use("another", monkeypatch)
    with pytest.raises(DeviceError, match=r"does not accept any key of yours.*ssh-copy-id"):
        over_ssh(server.address).pull("a", server.folder / "a", 2**20)
    assert not (server.folder / "a").exists()


@needs_sshd
def test_nothing_listens(server: Server) -> None:
    with pytest.raises(DeviceError, match=r"nothing listens there.*Connection refused"):
        over_ssh("ssh://127.0.0.1:1").run(["true"], 30)


def test_no_ssh_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a").write_text("")
    with pytest.raises(DeviceError, match=r"ssh cannot be run here.*Install OpenSSH's client"):
        over_ssh("me@there").push(tmp_path / "a", "a")
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
        raise DeviceError(refusal(said, "pi", "ssh me@pi")[0])


# ---- names ----


@needs_sshd
def test_names_are_reached(server: Server) -> None:
    assert isinstance(reach("local"), Local)
    there = reach("edge")  # a Host of the configuration
    assert (there.name, there.python) == ("ssh://edge", "python3")
    assert isinstance(there, Posix)
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


def test_a_port_without_ssh_before_it_is_told_what_it_lacks() -> None:
    with pytest.raises(UsageError, match="a port or a Python needs ssh:// before it"):
        reach("me@127.0.0.1:1")
