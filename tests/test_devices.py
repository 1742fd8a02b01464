"""Devices: the local one, and the agent's journey to any of them."""

from __future__ import annotations

import ast
import fcntl
import json
import socket
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import edgekd as package
from edgekd.agent import turns
from edgekd.boards import Connect
from edgekd.devices import (
    Device,
    Event,
    _following,
    _listening,
    address,
    device_at,
    pack_agent,
    ship,
    unshared,
)
from edgekd.devices._packing import slim
from edgekd.devices._posix import settle
from edgekd.devices.local import Local
from edgekd.errors import DeviceError, LinkError, UsageError


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
    stopped: list[str] = field(default_factory=list)
    gone: bool = False
    alone_s: float = 300.0

    def missing(self, sizes: Mapping[str, int]) -> list[str]:
        return [at for at, size in sizes.items() if len(self.pushed.get(at, b"")) != size]

    def push(self, local: Path, remote: str) -> None:
        self.pushed[remote] = local.read_bytes()

    def run(
        self,
        argv: Sequence[str],
        timeout: float,
        on_line: Callable[[str], None] | None = None,
        silence: float = float("inf"),
    ) -> str:
        if argv[2] == "stop":
            self.stopped.append(argv[3])
            return ""
        self.ran = list(argv)
        for line in self.lines:
            if on_line is not None:
                on_line(line + "\n")
        if self.fails:
            raise DeviceError("python3 ended with exit code 1")
        return "\n".join(self.lines)

    def pull(self, remote: str, local: Path, most: int) -> None:
        local.write_bytes(self.pushed[remote])

    def remove(self, remotes: Sequence[str]) -> None:
        if self.gone:
            raise DeviceError("the connection was lost")
        self.removed += remotes

    def clear(self, *, environments: bool = True) -> None:
        self.pushed.clear()


def result(**more: object) -> str:
    return json.dumps({"event": "result", **more})


def test_three_verbs(tmp_path: Path) -> None:
    device: Device = Local()
    (tmp_path / "a.txt").write_text("content")
    sizes = {"0123/a.txt": 7, "b": 1}
    assert device.missing(sizes) == ["0123/a.txt", "b"]
    device.push(tmp_path / "a.txt", "0123/a.txt")
    device.push(tmp_path / "a.txt", "0123/a.txt")  # once more
    assert device.missing(sizes) == ["b"]
    assert device.missing({"0123/a.txt": 8}) == ["0123/a.txt"]  # a part of it, or something else
    lines: list[str] = []
    show = "import sys; print(open(sys.argv[1]).read()); print('; rm -rf $HOME')"
    said = device.run([device.python, "-c", show, "0123/a.txt"], 30, lines.append)
    assert said == "content\n; rm -rf $HOME\n"
    assert lines == ["content\n", "; rm -rf $HOME\n"]
    device.pull("0123/a.txt", tmp_path / "b.txt", 2**20)
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
        device.pull("b", tmp_path / "b", 2**20)


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
    assert (tmp_path / "a.zip").stat().st_size < 130_000
    compile(entry, "__main__.py", "exec")
    assert "(3, 8)" in entry


def test_what_travels_means_the_same_line_by_line() -> None:
    files = sorted((Path(package.__file__).parent / "agent").rglob("*.py"))
    for file in files:
        whole, sent = file.read_text("utf-8"), slim(file)
        assert _meaning(sent) == _meaning(whole), file
        assert sent.count("\n") == whole.count("\n"), file
    assert sum(map(len, map(slim, files))) < 0.8 * sum(file.stat().st_size for file in files)


def _meaning(text: str) -> str:
    """A module's tree with its lines, but for what texts that stand for themselves say."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant("")
    return ast.dump(tree) + repr([getattr(node, "lineno", 0) for node in ast.walk(tree)])


def test_ship_sends_everything_and_streams_events(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"model")
    progress = {"event": "progress", "step": "timing"}
    device = Recorder(["a library talks", json.dumps(progress), result(models=[])])
    seen: list[Event] = []
    found = ship(device, {"agent": 2}, {address(model): model}, 60, seen.append)
    assert found == {"event": "result", "models": []}
    assert seen == [progress]
    python, zipped, keep, job, heard = device.ran
    assert (python, keep, heard) == ("python3", "keep", "0")
    assert zipped.endswith("-agent.zip")
    sent = json.loads(device.pushed[job])
    assert sent.pop("owner").endswith(f"@{socket.gethostname()}")
    assert sent == {"agent": 2, "limit_s": 60, "alone_s": 300.0}
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
        ship(device, {"agent": 2}, {"0123/m.onnx": images}, 60, None, {place: images})
    assert device.pushed[place] == b"images"
    job = device.ran[3]
    run = job.removesuffix("-job.json")
    left = [f"{run}/events.jsonl", f"{run}/worker.json", f"{run}/said"]
    assert device.removed == [job, *left, place]
    assert device.stopped == ([job] if fails else [])
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
    assert left == [".edgekd", "kept", "kept/b"]
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


# ---- links ----


@dataclass
class Flaky(Recorder):
    """A device whose links give some lines each, and then fail."""

    links: Sequence[tuple[list[str], Exception | None]] = ()
    heard: list[str] = field(default_factory=list)

    def run(
        self,
        argv: Sequence[str],
        timeout: float,
        on_line: Callable[[str], None] | None = None,
        silence: float = float("inf"),
    ) -> str:
        if argv[2] == "stop":
            return super().run(argv, timeout, on_line, silence)
        self.heard.append(argv[4])
        lines, error = self.links[len(self.heard) - 1]
        for line in lines:
            if on_line is not None:
                on_line(line)
        if error is not None:
            raise error
        return "".join(lines)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_following, "PAUSES_S", (0.01, 0.02))


def told(*numbers: int) -> list[str]:
    return [json.dumps({"event": "progress", "n": number}) + "\n" for number in numbers]


ATTACHED = json.dumps({"event": "attached"}) + "\n"
BEAT = json.dumps({"event": "beat"}) + "\n"
END = result() + "\n"


@pytest.mark.usefixtures("quick")
def test_lines_that_were_cut_are_asked_for_again() -> None:
    lost = LinkError("it was lost")
    device = Flaky(
        links=[
            ([ATTACHED, *told(0), "a banner\n", told(1)[0][:9]], lost),
            ([], lost),
            ([ATTACHED, *told(1), BEAT, END[:-1]], lost),
            ([ATTACHED, END], None),
        ]
    )
    seen: list[Event] = []
    assert ship(device, {}, {}, 60, seen.append) == {"event": "result"}
    assert [event["n"] for event in seen if event["event"] == "progress"] == [0, 1]
    assert device.heard == ["0", "1", "1", "2"]
    notes = [event["text"] for event in seen if event["event"] == "note"]
    assert [note[:8] for note in notes] == ["lost the", "the link"] * 2  # not for each try
    assert device.stopped == []


@pytest.mark.usefixtures("quick")
def test_patience_ends() -> None:
    device = Flaky(links=[([ATTACHED], LinkError("cut"))] + [([], LinkError("refused"))] * 99)
    with pytest.raises(LinkError, match=r"^refused It was not back after .* within 300 s\.$"):
        ship(device, {}, {}, 60, patience=0.3)
    assert len(device.heard) > 3
    assert device.stopped == []  # there is no way to it


@pytest.mark.usefixtures("quick")
def test_what_does_not_live_at_all_is_not_tried_again() -> None:
    device = Flaky(links=[([], LinkError("ended by a signal", beyond=True))])
    with pytest.raises(LinkError, match=r"^ended by a signal$"):
        ship(device, {}, {}, 60)
    assert device.heard == ["0"]


@pytest.mark.usefixtures("quick")
def test_other_failures_after_a_cut_end_and_stop_the_run() -> None:
    device = Flaky(links=[([ATTACHED], LinkError("cut")), ([], DeviceError("another host key"))])
    with pytest.raises(DeviceError, match="another host key"):
        ship(device, {}, {}, 60)
    assert len(device.stopped) == 1


# ---- folders ----


@pytest.mark.parametrize(
    ("folder", "path"),
    [("a/b", "a/b"), ("~/a", "a"), ("/data/edgekd", "/data/edgekd"), ("a/", "a"), ("./a", "a")],
)
def test_folders(folder: str, path: str) -> None:
    assert settle(folder, "") == path
    assert settle(folder, "/tmp/") == (path if path.startswith("/") else f"/tmp/{path}")


def test_a_colon_in_a_folder_is_refused(tmp_path: Path) -> None:
    """It would part the agent's zip in two where Python looks for it."""
    with pytest.raises(UsageError, match="a colon parts folders"):
        settle("/data/a:b", "")
    with pytest.raises(UsageError, match="a colon parts folders"):
        Local(folder=str(tmp_path / "a:b"))


def test_the_home_folder_of_this_machine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "homes" / "me")
    (tmp_path / "homes" / "me").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "homes" / "me"))
    for folder in ("homes/me", "homes", "link"):
        with pytest.raises(UsageError, match="is the home folder there, or holds it"):
            Local(folder=str(tmp_path / folder))
    assert Local(folder="of/mine").folder == tmp_path / "homes/me/of/mine"


@pytest.mark.parametrize("folder", ["~", "~/", "/", ".", "..", "a/../..", "~me/a", "-rf", ""])
def test_folders_that_are_not_edgekds_alone(folder: str) -> None:
    with pytest.raises(UsageError, match="expected one for edgekd alone"):
        settle(folder, "")


def test_a_folder_that_edgekd_made_goes_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    device = Local(folder=str(tmp_path / "deep" / "edgekd"))
    device.push(tmp_path / "a", "0123456789abcdef/a")
    assert not (device.folder / "0123456789abcdef/a").samefile(tmp_path / "a")  # it may change
    device.clear()
    assert list((tmp_path / "deep").iterdir()) == []
    device.clear()  # there is none any more
    device.push(tmp_path / "a", "0123456789abcdef/a")
    assert device.run(["cat", "0123456789abcdef/a"], 30) == "a"


def test_of_a_folder_that_was_there_only_edgekds_own_goes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "run-away").mkdir(parents=True)
    (home / "lock").write_text("")
    device = Local(folder=str(home))
    venv = "venv-0123456789ab/bin/python"
    for place in ("0123456789abcdef/a", "0123456789abcdef-agent.zip", "mine/a", venv):
        device.push(home / "lock", place)
    (home / ".edgekd-venv-x").mkdir()
    device.clear(environments=False)
    assert (home / venv).is_file()
    assert not (home / "0123456789abcdef").exists()
    device.clear()
    left = {path.relative_to(home).as_posix() for path in home.rglob("*")}
    assert left == {"run-away", "lock", "mine", "mine/a"}


def test_a_run_that_lives_is_not_cleared(tmp_path: Path) -> None:
    device = Local(folder=str(tmp_path / "edgekd"))
    (tmp_path / "a").write_text("a")
    device.push(tmp_path / "a", "0123456789abcdef/a")
    job = {"owner": "her@desk", "models": [{"name": "tiny"}]}
    with turns.take_turn(device.folder, job, lambda _: None):
        with pytest.raises(DeviceError, match=r"her@desk has been .*tiny\)\. Nothing was removed"):
            device.clear()
        assert (device.folder / "0123456789abcdef/a").is_file()
    waiting = device.folder / "run-0123456789abcdef" / "events.jsonl"
    waiting.parent.mkdir()
    with waiting.open("w") as file:  # it waits in line: the device's lock is not its own
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DeviceError, match=r"somebody is using .* Nothing was removed"):
            device.clear()
        assert (device.folder / "0123456789abcdef/a").is_file()
    device.clear()
    assert not device.folder.exists()


def test_a_program_that_closes_its_side_is_heard_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_listening, "BEAT_S", 0.05)
    ended = _listening.listen(["sh", "-c", "exec 0<&-; sleep 0.3; echo hi"], 30)
    assert (ended.out, ended.code) == ("hi\n", 0)


def test_what_a_program_leaves_behind_is_not_waited_for() -> None:
    """It holds the pipe that is listened to."""
    began = time.monotonic()
    ended = _listening.listen(["sh", "-c", "sleep 20 & echo hi; exit 3"], 10)
    assert (ended.out, ended.code, ended.late) == ("hi\n", 3, False)
    assert time.monotonic() - began < 5


# ---- what others say ----


@pytest.mark.parametrize(
    "said",
    ["", "{}", "[]", "3", "null", "[" * 100_000, '{"task": 1, "models": []}', "1" * 5000,
     '{"task": "profile", "models": "x", "began": {}, "owner": "a", "since": "b"}',
     '{"task": "profile", "models": [1], "began": 1, "owner": "a", "since": "b"}',
     '{"task": "profile", "models": [], "began": 1, "owner": "a", "since": "b", "limit_s": "c"}'],
)  # fmt: skip
def test_a_lock_that_others_wrote_into_says_nothing(said: str, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(said)
    for source in (said, tmp_path / "lock"):
        assert turns.sentence(turns.read_holder(source)) == "somebody is using this device"


def test_a_file_may_have_no_more_bytes_than_it_was_said_to_have(tmp_path: Path) -> None:
    device = Local()
    (tmp_path / "a").write_bytes(bytes(11))
    device.push(tmp_path / "a", "a")
    with pytest.raises(DeviceError, match="a on local has more than 10 bytes"):
        device.pull("a", tmp_path / "b", 10)
    with (tmp_path / "b").open("wb") as file:
        endless = _listening.carry(["cat", "/dev/zero"], None, file, 60.0, 10)
    assert endless.flooded
    assert not endless.late
    with (tmp_path / "b").open("wb") as file:
        late = _listening.carry(["sleep", "60"], None, file, 0.1, 10)
    assert late.late
    assert not late.flooded


def test_only_the_end_of_much_that_is_said_is_kept() -> None:
    program = "import sys\nfor n in range(200000): print(n)\nprint('e' * 99999, file=sys.stderr)"
    ended = _listening.listen([sys.executable, "-c", program], 60)
    assert len(ended.out) <= _listening.KEPT
    assert ended.out.endswith("199998\n199999\n")
    assert len(ended.err) <= _listening.KEPT_ERR


@pytest.mark.usefixtures("quick")
def test_links_that_come_and_say_nothing_are_not_tried_for_ever() -> None:
    device = Flaky(links=[([ATTACHED], None)] * 99)
    with pytest.raises(DeviceError, match="ended without a result"):
        ship(device, {}, {}, 60)
    assert len(device.heard) == _following.MOST_EMPTY + 1


@pytest.mark.parametrize("address", ["ssh://a\0b", "a@b\0", "ssh://a/b\0", "adb://x\0"])
def test_an_address_that_no_program_can_be_given(address: str) -> None:
    with pytest.raises(UsageError, match="cannot read the device"):
        device_at(Connect(address))
