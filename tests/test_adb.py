"""Android boards: against a stand-in for ``adb`` that runs commands on this machine.

It is no proof that a real board works, and none was at hand.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from runpy import run_path

import pytest

from edgekd.devices import Device, adb, describe, reach, ship
from edgekd.devices.adb import over_adb
from edgekd.errors import DeviceError, LinkError, UsageError

TINY = run_path(str(Path(__file__).parent / "agent" / "tiny_models.py"))
# Its shell gets one string, as adb joins its arguments; standard input, output and exit codes go
# through; and what cannot be reached is said on standard error with the exit code 1.
FAKE = """#!/bin/sh
test "$1" = -s || exit 2
serial=$2; shift 2
case "$serial" in
  gone) echo "error: device 'gone' not found" >&2; exit 1;;
  shy) echo "error: device unauthorized." >&2; exit 1;;
esac
case "$1" in
  get-state) echo device;;
  shell) test "$2" = -T || exit 2; shift 2; cd / && exec sh -c "$*";;
  *) exit 2;;
esac
"""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where such boards let files be written."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "adb").write_text(FAKE)
    (tmp_path / "bin" / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    room = tmp_path / "local" / "tmp"
    room.mkdir(parents=True)
    monkeypatch.setattr(adb, "ROOM", f"{room}/")
    return room


def test_the_verbs(room: Path, tmp_path: Path) -> None:
    device: Device = reach(f"adb://0123ABC{sys.executable}")
    assert (device.name, device.python) == ("adb://0123ABC", sys.executable)
    (tmp_path / "a b$.bin").write_bytes(bytes(range(256)) * 40)
    device.push(tmp_path / "a b$.bin", "0123/a b$.bin")
    show = "import sys; print(len(open(sys.argv[1], 'rb').read()), sys.argv[2])"
    assert device.run([sys.executable, "-c", show, "0123/a b$.bin", "; $HOME"], 30) == (
        "10240 ; $HOME\n"
    )
    device.pull("0123/a b$.bin", tmp_path / "back", 2**20)
    assert (tmp_path / "back").read_bytes() == bytes(range(256)) * 40
    device.remove(["0123/a b$.bin"])
    assert [path.name for path in (room / "edgekd-agent").iterdir()] == [".edgekd"]
    device.clear()
    assert list(room.iterdir()) == []


def test_an_agent_runs_there(room: Path) -> None:
    device = over_adb("adb://0123ABC", name="board", python=sys.executable)
    assert describe(device)["machine"] == os.uname().machine
    with pytest.raises(DeviceError, match=r"board: the task is 'sing'"):
        ship(device, {"agent": 2, "task": "sing"}, {}, 60)
    assert list(room.rglob("run-*")) == []


def test_how_programs_end(room: Path, tmp_path: Path) -> None:
    device = over_adb("adb://0123ABC")
    with pytest.raises(DeviceError, match=r"sh ended with exit code 1\. It said: no luck"):
        device.run(["sh", "-c", "echo no luck >&2; exit 1"], 30)
    with pytest.raises(DeviceError, match="none cannot be run on adb://0123ABC"):
        device.run(["none"], 30)
    with pytest.raises(LinkError, match="ended by a signal") as caught:
        device.run(["sh", "-c", "exit 137"], 30)
    assert caught.value.beyond
    (tmp_path / "a").write_text("a")
    with pytest.raises(LinkError, match=r"adb does not reach it.*device 'gone' not found"):
        over_adb("adb://gone").push(tmp_path / "a", "a")
    with pytest.raises(DeviceError, match="does not trust this computer yet") as shy:
        over_adb("adb://shy").run(["true"], 30)
    assert not isinstance(shy.value, LinkError)


def test_no_adb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"adb cannot be run here.*platform tools"):
        over_adb("adb://0123ABC").run(["true"], 30)


@pytest.mark.parametrize(
    "address", ["adb://", "adb://-e", "adb://a b", "adb:///python", "adb://$x"]
)
def test_addresses_that_cannot_be_read(address: str) -> None:
    with pytest.raises(UsageError, match="expected adb://SERIAL/path/of/python"):
        reach(address)


def test_addresses() -> None:
    device = over_adb("adb://192.168.1.7:5555/data/local/tmp/python/bin/python3")
    assert device.name == "adb://192.168.1.7:5555"
    assert device.python == "/data/local/tmp/python/bin/python3"
    assert device.folder == "/data/local/tmp/edgekd-agent"
