"""Devices: the local one, and the agent's journey to any of them."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgekd.devices import Device, Event, address, pack_agent, ship, unshared
from edgekd.devices.local import Local
from edgekd.errors import DeviceError


@dataclass
class Recorder:
    """A device that writes down what it is asked, and answers with given lines."""

    lines: Sequence[str] = ()
    fails: bool = False
    name: str = "recorder"
    python: str = "python3"
    pushed: dict[str, bytes] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    gone: bool = False

    def push(self, local: Path, remote: str) -> None:
        self.pushed[remote] = local.read_bytes()

    def run(
        self, argv: Sequence[str], timeout: float, on_line: Callable[[str], None] | None = None
    ) -> str:
        self.ran = list(argv)
        for line in self.lines:
            if on_line is not None:
                on_line(line)
        if self.fails:
            raise DeviceError("python3 ended with exit code 1")
        return "\n".join(self.lines)

    def pull(self, remote: str, local: Path) -> None:
        local.write_bytes(self.pushed[remote])

    def remove(self, remotes: Sequence[str]) -> None:
        if self.gone:
            raise DeviceError("the connection was lost")
        self.removed += remotes


def result(**more: object) -> str:
    return json.dumps({"event": "result", **more})


def test_three_verbs(tmp_path: Path) -> None:
    device: Device = Local()
    (tmp_path / "a.txt").write_text("content")
    device.push(tmp_path / "a.txt", "0123/a.txt")
    device.push(tmp_path / "a.txt", "0123/a.txt")  # it is there already
    lines: list[str] = []
    show = "import sys; print(open(sys.argv[1]).read()); print('; rm -rf $HOME')"
    said = device.run([device.python, "-c", show, "0123/a.txt"], 30, lines.append)
    assert said == "content\n; rm -rf $HOME\n"
    assert lines == ["content\n", "; rm -rf $HOME\n"]
    device.pull("0123/a.txt", tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text() == "content"


def test_the_private_folder_goes_with_the_device() -> None:
    device = Local()
    folder = device.folder
    assert folder.stat().st_mode & 0o077 == 0
    del device
    assert not folder.exists()


def test_what_a_program_says_before_it_fails_is_in_the_message() -> None:
    device = Local()
    with pytest.raises(DeviceError, match=r"exit code 7 on local\. It said: no luck"):
        device.run(
            [sys.executable, "-c", "import sys; print('no luck', file=sys.stderr); exit(7)"], 30
        )
    with pytest.raises(DeviceError, match="no-such-python cannot be run on local: No such file"):
        device.run(["no-such-python"], 30)


def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(DeviceError, match=r"still running on local after 0\.2 s"):
        Local().run([sys.executable, "-c", "input()"], 0.2)


def test_paths_stay_inside(tmp_path: Path) -> None:
    device = Local()
    (tmp_path / "a").write_text("")
    with pytest.raises(DeviceError, match="outside of the folder"):
        device.push(tmp_path / "a", "../a")
    with pytest.raises(DeviceError, match="there is no file"):
        device.push(tmp_path / "none", "a")
    with pytest.raises(DeviceError, match="there is no b on local"):
        device.pull("b", tmp_path / "b")


def test_addresses_name_the_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one.onnx", tmp_path / "two.onnx"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    assert address(one).partition("/")[0] == address(two).partition("/")[0]
    assert address(one).endswith("/one.onnx")
    two.write_bytes(b"other")
    assert address(one).partition("/")[0] != address(two).partition("/")[0]
    assert address(one, two) != address(one)


def test_the_zip_is_the_same_every_time_and_holds_the_agent_only(tmp_path: Path) -> None:
    pack_agent(tmp_path / "a.zip")
    pack_agent(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
        entry = archive.read("__main__.py").decode()
    assert {"__main__.py", "edgekd/__init__.py", "edgekd/agent/runtimes/ort.py"} <= set(names)
    assert all(n.startswith(("edgekd/agent/", "edgekd/__init__", "__main__")) for n in names)
    assert (tmp_path / "a.zip").stat().st_size < 100_000
    compile(entry, "__main__.py", "exec")
    assert "(3, 8)" in entry


def test_ship_sends_everything_and_streams_events(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"model")
    progress = {"event": "progress", "step": "timing"}
    device = Recorder(["a library talks", json.dumps(progress), result(models=[])])
    seen: list[Event] = []
    found = ship(device, {"agent": 1}, {address(model): model}, 60, seen.append)
    assert found == {"event": "result", "models": []}
    assert seen == [progress]
    python, zipped, job = device.ran
    assert python == "python3"
    assert zipped.endswith("-agent.zip")
    assert json.loads(device.pushed[job]) == {"agent": 1, "exit_with_stdin": True}
    assert device.pushed[address(model)] == b"model"


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_for_one_run_alone_is_removed(tmp_path: Path, fails: bool) -> None:
    images = tmp_path / "images.npy"
    images.write_bytes(b"images")
    place = unshared(images)
    assert place.endswith("/images.npy")
    assert place != unshared(images)  # another run that has the same images keeps its own
    device = Recorder([] if fails else [result()], fails=fails)
    with suppress(DeviceError):
        ship(device, {"agent": 1}, {"0123/m.onnx": images}, 60, None, {place: images})
    assert device.pushed[place] == b"images"
    assert device.removed == [device.ran[2], place]
    assert not set(device.removed) & {"0123/m.onnx", device.ran[1]}


def test_a_device_that_cannot_remove_has_done_its_work() -> None:
    assert ship(Recorder([result()], gone=True), {}, {}, 60) == {"event": "result"}


def test_files_are_removed_from_this_machine(tmp_path: Path) -> None:
    device = Local()
    (tmp_path / "a").write_text("a")
    for place in ("run/a", "kept/a", "kept/b", "top"):
        device.push(tmp_path / "a", place)
    device.remove(["run/a", "kept/a", "top", "none/at all"])
    left = sorted(file.relative_to(device.folder).as_posix() for file in device.folder.rglob("*"))
    assert left == ["kept", "kept/b"]
    assert (tmp_path / "a").read_text() == "a"  # it may have been a link to it
    with pytest.raises(DeviceError, match="outside of the folder"):
        device.remove(["../a"])


def test_the_agents_own_words_win(tmp_path: Path) -> None:
    error = json.dumps({"event": "error", "kind": "model", "message": "cannot load it: why"})
    for fails in (True, False):
        with pytest.raises(DeviceError, match=r"^recorder: cannot load it: why$"):
            ship(Recorder([error], fails=fails), {}, {}, 60)


def test_an_agent_without_a_last_word() -> None:
    with pytest.raises(DeviceError, match=r"ended without a result.*It said: hm"):
        ship(Recorder(["hm"]), {}, {}, 60)
    with pytest.raises(DeviceError, match="exit code 1"):
        ship(Recorder(["hm"], fails=True), {}, {}, 60)
