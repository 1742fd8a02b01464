"""What goes wrong between a host and a device, done on purpose: nothing is lost, all is said.

The device is a real sshd on loopback; the link to it is a proxy that can be cut. Missing modules
and models that are none are in tests/agent/test_main.py, refusals of ssh's in tests/test_ssh.py,
and what an agent does on its own in tests/agent/test_keeper.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from edgekd import devices
from edgekd.agent import keeper
from edgekd.devices import Event, _following, _listening, address, ship
from edgekd.devices._posix import Posix
from edgekd.devices.ssh import FOLDER, over_ssh
from edgekd.errors import DeviceError, LinkError
from tests.agent.test_main import QUICK
from tests.proxy import Proxy, proxied
from tests.sshd import Server, needs_sshd, serving

pytestmark = needs_sshd
TINY = run_path(str(Path(__file__).parents[1] / "agent" / "tiny_models.py"))
OLD = (
    "import runpy, sys\nsys.version_info, sys.version = (3, 7, 3), '3.7.3 (default)'\n"
    "sys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def proxy(running: Server) -> Iterator[Proxy]:
    with proxied(running.port) as proxy:
        yield proxy


@pytest.fixture
def server(running: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server behind the proxy; it knows my key, and I know its."""
    server = replace(running, port=proxy.port)
    shutil.rmtree(server.home / FOLDER, ignore_errors=True)
    server.know(server.public("host"))
    server.use("mine", monkeypatch)
    monkeypatch.setattr(_following, "PAUSES_S", (0.5,))
    monkeypatch.setattr(_listening, "BEAT_S", 0.5)
    return server


@pytest.fixture
def device(server: Server) -> Posix:
    return over_ssh(f"{server.address}{sys.executable}")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """So slow that 20 000 runs, after which a measurement is over, take more than a minute."""
    return Path(TINY["classifier"](tmp_path / "tiny.onnx", size=(64, 64), repeat=60))


def job(model: Path, seconds: float = 3.0, **policy: Any) -> dict[str, Any]:
    measuring = {**QUICK, "min_seconds": seconds, "max_seconds": seconds, **policy}
    models = [{"name": "tiny", "path": address(model)}]
    return {"agent": 2, "runtime": "ort", "policy": measuring, "models": models}


def send(device: Posix, model: Path, seconds: float = 3.0, **more: Any) -> Event:
    """Measure a model there."""
    policy = more.pop("policy", {})
    return ship(device, job(model, seconds, **policy), {address(model): model}, 60, **more)


def at_timing(act: Callable[[], None]) -> Callable[[Event], None]:
    """Do something once, in the middle of the measurement."""
    done: list[bool] = []

    def on_event(event: Event) -> None:
        if event.get("step") == "timing" and not done:
            done.append(True)
            act()

    return on_event


def both(*told: Callable[[Event], None]) -> Callable[[Event], None]:
    def on_event(event: Event) -> None:
        for each in told:
            each(event)

    return on_event


def run_folder(server: Server) -> Path:
    (events,) = (server.home / FOLDER).glob("run-*/events.jsonl")
    return events.parent


def worker(server: Server) -> int:
    return int(json.loads((run_folder(server) / "worker.json").read_text())["pid"])


def wait_for(over: Callable[[], bool], seconds: float = 15.0) -> None:
    until = time.monotonic() + seconds
    while not over():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Whether no process of a group lives; a zombie does not."""
    listed = subprocess.run(
        ["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return not [line for line in listed if line.split()[0] == str(pid) and "Z" not in line]


def shim(folder: Path, text: str) -> str:
    """A Python that is none, or not the one it seems to be."""
    path = folder / "python-shim"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


# ---- the link ----


def cut_twice(proxy: Proxy, size: int) -> Callable[[Event], None]:
    """Cut the link in the middle of the timing, and once more within the samples."""
    then = [lambda: proxy.cut_after(size)]

    def on_event(event: Event) -> None:
        if "lost the link" in str(event.get("text")):
            threading.Timer(0.7, proxy.restore).start()
        elif "is back" in str(event.get("text")) and then:
            then.pop()()

    return both(at_timing(proxy.cut), on_event)


def links(events: list[Event]) -> list[str]:
    return [str(event["text"]) for event in events if event["event"] == "note"]


def test_a_cut_link_loses_nothing(
    device: Posix,
    server: Server,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # so fast that its samples are many times longer than what may come of them, beats and all
    model = TINY["classifier"](tmp_path / "tiny.onnx", size=(64, 64), repeat=6)
    monkeypatch.setattr(devices, "discard", lambda *_: None)  # to compare with what is there
    seen: list[Event] = []
    cuts = cut_twice(proxy, 6_000)
    last = send(device, model, 5.0, on_event=both(seen.append, cuts))
    lines = (run_folder(server) / "events.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    of_the_run = [event for event in seen if event["event"] != "beat"]
    heard = [event for event in of_the_run if "link" not in str(event.get("text"))] + [last]
    assert heard == told
    (samples,) = [event for event in told if event["event"] == "samples"]
    assert len(samples["wall_ns"]) == last["models"][0]["timing"]["n"] > 100
    assert [text[:13] for text in links(seen)] == ["lost the link", "the link to s"] * 2


def test_a_cable_that_is_pulled_and_put_back(
    device: Posix, proxy: Proxy, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing says that it is cut: that nothing comes does."""
    monkeypatch.setattr(_following, "SILENCE_S", 1.5)
    seen: list[Event] = []

    def pull() -> None:
        proxy.freeze()
        threading.Timer(2.0, proxy.restore).start()

    first = at_timing(pull)
    last = send(device, model, 2.0, on_event=both(seen.append, first))
    assert last["event"] == "result"
    assert "said nothing" in links(seen)[0]
    assert "is back" in links(seen)[-1]


def test_a_link_that_stays_cut(device: Posix, server: Server, proxy: Proxy, model: Path) -> None:
    brief, pids = replace(device, alone_s=2.0), []

    def cut() -> None:
        pids.append(worker(server))
        proxy.cut()

    with pytest.raises(LinkError, match=r"was not back after .* this run is given up.* ends by it"):
        send(brief, model, 60.0, on_event=at_timing(cut), patience=2.0)
    wait_for(lambda: gone(pids[0]))
    last = json.loads((run_folder(server) / "events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["kind"]) == ("error", "alone")
    assert "nobody listened for 2 s" in last["message"]


def test_another_host_key_after_a_cut(
    device: Posix, server: Server, proxy: Proxy, model: Path
) -> None:
    def cut() -> None:
        server.know(server.public("another"))
        proxy.cut()
        proxy.restore()

    brief = replace(device, alone_s=1.0)  # it cannot be stopped: nothing goes to that machine
    with pytest.raises(DeviceError, match="host key is not the one that was known") as caught:
        send(brief, model, 60.0, on_event=at_timing(cut))
    assert not isinstance(caught.value, LinkError)
    wait_for(lambda: gone(worker(server)))


def test_whoever_stops_listening_stops_the_run(device: Posix, server: Server, model: Path) -> None:
    pids = []

    def interrupt() -> None:
        pids.append(worker(server))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send(device, model, 60.0, on_event=at_timing(interrupt))
    assert gone(pids[0])
    assert not list((server.home / FOLDER).glob("run-*"))


# ---- the device ----


def test_a_restart_of_the_device(device: Posix, server: Server, proxy: Proxy, model: Path) -> None:
    def restart() -> None:
        state = run_folder(server) / "worker.json"
        proxy.cut()
        os.killpg(worker(server), signal.SIGKILL)
        state.write_text(json.dumps({**json.loads(state.read_text()), "boot": "an earlier one"}))
        threading.Timer(1.0, proxy.restore).start()

    with pytest.raises(DeviceError, match="device was restarted in the middle of the run"):
        send(device, model, 60.0, on_event=at_timing(restart))


def test_a_worker_that_is_killed(device: Posix, server: Server, model: Path) -> None:
    kill = at_timing(lambda: os.killpg(worker(server), signal.SIGKILL))
    with pytest.raises(DeviceError, match=r"killed in the middle of the run.* MiB are free now"):
        send(device, model, 60.0, on_event=kill)


def test_a_listener_that_is_killed(device: Posix, server: Server, model: Path) -> None:
    """As when the device ends what hangs on the link, and the link is up."""
    seen: list[Event] = []

    def kill() -> None:
        found = subprocess.run(["pgrep", "-f", "agent.zip keep"], capture_output=True, check=True)
        for pid in map(int, found.stdout.split()):
            with suppress(FileNotFoundError):
                there = Path(f"/proc/{pid}/cwd").readlink() == server.home / FOLDER
                if there and pid != worker(server):
                    os.kill(pid, signal.SIGKILL)

    first = at_timing(kill)
    last = send(device, model, 1.0, on_event=both(seen.append, first))
    assert last["event"] == "result"
    assert "ended by a signal" in links(seen)[0]


def test_no_python(server: Server, model: Path) -> None:
    with pytest.raises(DeviceError, match=r"/no/python cannot be run on .* Install it there"):
        send(over_ssh(f"{server.address}/no/python"), model)


def test_an_old_python(server: Server, tmp_path: Path, model: Path) -> None:
    old = tmp_path / "old.py"
    old.write_text(OLD)
    python = shim(tmp_path, f'exec {sys.executable} {old} "$@"')
    with pytest.raises(DeviceError, match=r"Python is 3\.7\.3; the agent needs 3\.8 or newer"):
        send(over_ssh(server.address, python=python), model)


def test_a_runtime_for_another_cpu(server: Server, tmp_path: Path, model: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("import os\nos.kill(os.getpid(), 4)\n")
    python = shim(tmp_path, f'PYTHONPATH={tmp_path} exec {sys.executable} "$@"')
    with pytest.raises(DeviceError, match=r"illegal instruction \(SIGILL\).*onnxruntime<1\.21"):
        send(over_ssh(server.address, python=python), model)


def test_a_python_that_hangs(
    server: Server, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_following, "SILENCE_S", 1.0)
    python = shim(tmp_path, "exec sleep 60")
    with pytest.raises(LinkError, match=r"said nothing on .* for 1 s: it hangs, or the link"):
        send(over_ssh(server.address, python=python), model)


def test_a_worker_that_hangs(
    device: Posix, server: Server, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot end itself then, so that the host does."""
    monkeypatch.setattr(devices, "MARGIN_S", 1.0)
    pids = []

    def freeze() -> None:
        pids.append(worker(server))
        os.kill(pids[0], signal.SIGSTOP)

    with pytest.raises(DeviceError, match=r"was not done after 9 s, and did not end by itself"):
        ship(device, job(model, 60.0), {address(model): model}, 8, at_timing(freeze))
    wait_for(lambda: gone(pids[0]))


def test_two_hosts_at_once(device: Posix, server: Server, model: Path) -> None:
    started, enough = threading.Event(), threading.Event()

    def until_enough(event: Event) -> None:
        if enough.is_set():
            raise KeyboardInterrupt

    def first() -> None:
        with suppress(KeyboardInterrupt):
            send(device, model, 50.0, on_event=both(at_timing(started.set), until_enough))

    thread = threading.Thread(target=first)
    thread.start()
    assert started.wait(30)
    other = over_ssh(f"{server.address}{sys.executable}")
    words = r"has been using this device since \d\d:\d\d .*profile tiny.* at most another.*--wait"
    with pytest.raises(DeviceError, match=words):
        send(other, model)
    waiting: list[Event] = []
    told = both(waiting.append, lambda event: enough.set() if event["event"] == "note" else None)
    later = send(other, model, 0.5, policy={"wait_s": 30.0}, on_event=told)
    thread.join()
    assert later["event"] == "result"
    assert links(waiting)[0].startswith("waiting: ")


# ---- its disk ----


DISK = 4 * keeper.FULL  # bytes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB, which is not full yet; it takes root to have one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(server: Server, small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(DISK + 1))
    device = over_ssh(server.address, folder=str(small_disk / "edgekd"))
    with pytest.raises(DeviceError, match=r"big could not be kept.*disk of .* is full.*--folder"):
        device.push(tmp_path / "big", "0/big")
    assert [file.name for file in small_disk.rglob("*") if file.is_file()] == [".edgekd"]


def test_a_disk_that_fills_up(server: Server, small_disk: Path, model: Path) -> None:
    device = over_ssh(f"{server.address}{sys.executable}", folder=str(small_disk / "edgekd"))

    def fill() -> None:
        assert shutil.disk_usage(small_disk).free > keeper.FULL
        with (small_disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass

    with pytest.raises(DeviceError, match=r"disk of the device is full.*--folder"):
        send(device, model, 1.0, on_event=at_timing(fill))


def test_a_disk_for_reading_only(server: Server, small_disk: Path, model: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    device = over_ssh(f"{server.address}{sys.executable}", folder=str(small_disk / "edgekd"))
    with pytest.raises(DeviceError, match=r"cannot be written to\. Name a folder in another place"):
        send(device, model)
