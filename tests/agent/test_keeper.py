"""Runs that outlive their link: a worker apart from whoever listens, and how it ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgekd.agent import keeper, locking, turns
from edgekd.agent.__main__ import ABANDONED
from edgekd.agent.children import HELD
from edgekd.agent.failures import AgentError
from edgekd.devices import pack_agent
from tests.agent.test_main import QUICK

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
LONG = {"min_seconds": 60.0, "max_seconds": 60.0}
Event = dict[str, Any]


@pytest.fixture
def folder(tiny: Mapping[str, Any], tmp_path: Path) -> Path:
    """A device's: with the agent and a model."""
    pack_agent(tmp_path / "agent.zip")
    # so slow that 20 000 runs, after which a measurement is over, take more than a minute
    tiny["classifier"](tmp_path / "a.onnx", size=(64, 64), repeat=60)
    return tmp_path


def order(folder: Path, name: str = "1", **more: Any) -> Path:
    """Write a job."""
    policy = {**QUICK, **more.pop("policy", {})}
    job = {"agent": 2, "runtime": "ort", "policy": policy, **more}
    path = folder / f"run-{name}-job.json"
    path.write_text(json.dumps({"models": [{"name": "a", "path": "a.onnx"}], **job}))
    return path


def agent(folder: Path, *words: str) -> list[str]:
    return [sys.executable, str(folder / "agent.zip"), *words]


@contextmanager
def kept(
    folder: Path, job: Path, lines: int = 0, limits: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """A listener at a run; its standard input is what keeps it."""
    command = agent(folder, "keep", job.name, str(lines))
    shell = ["sh", "-c", f'{limits or ":"}; exec "$@"', "sh"]
    listener = subprocess.Popen(
        [*shell, *command], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with listener:
        yield listener


def listen(folder: Path, job: Path, lines: int = 0, limits: str = "") -> list[Event]:
    """All that a listener is told until it ends."""
    with kept(folder, job, lines, limits) as listener:
        assert listener.stdout is not None
        return [json.loads(line) for line in listener.stdout]


def until(listener: subprocess.Popen[str], word: str) -> list[Event]:
    """What a listener is told up to a line with a word."""
    heard = []
    for line in listener.stdout or ():
        heard.append(json.loads(line))
        if word in line:
            return heard
    pytest.fail(f"no line with {word} in {heard}")


def state(job: Path) -> Path:
    return job.with_name(job.name.replace("-job.json", "")) / "worker.json"


def events(job: Path) -> list[Event]:
    lines = state(job).with_name("events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def group(job: Path) -> int:
    return int(json.loads(state(job).read_text())["pid"])


def alive(pid: int) -> list[str]:
    """The processes of a group that live."""
    found = subprocess.run(["ps", "-eo", "pgid=,pid=,stat="], capture_output=True, text=True)
    lines = [line.split() for line in found.stdout.splitlines()]
    return [line[1] for line in lines if line[0] == str(pid) and "Z" not in line[2]]


def wait_for(over: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not over():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def governor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a run fixed that is about to die, once :func:`fixed_by` says which."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "governor").write_text("performance")
    return tmp_path / "governor"


def fixed_by(worker: int, governor: Path) -> None:
    place = governor.parent / "home" / locking.FOLDER
    place.mkdir(parents=True)
    state = {"pid": worker, "governors": {str(governor): "ondemand"}}
    (place / locking.FILE).write_text(json.dumps(state))


def test_whoever_comes_later_hears_the_rest(folder: Path) -> None:
    job = order(folder)
    heard = listen(folder, job)
    assert heard[0] == {"event": "attached"}
    assert heard[1:] == events(job)
    assert heard[-1]["event"] == "result"
    assert listen(folder, job, 3)[1:] == heard[4:]  # of what is over, nothing is done again
    assert not alive(group(job))


def test_a_run_goes_on_without_a_listener_and_answers_the_next(folder: Path) -> None:
    job = order(folder, policy={"min_seconds": 2.0, "max_seconds": 2.0})
    with kept(folder, job) as listener:
        first = until(listener, '"opening"')[1:]
        listener.kill()
    with kept(folder, job, len(first)) as listener:
        assert listener.stdin is not None
        listener.stdin.write("\n")
        listener.stdin.flush()
        beat = until(listener, '"beat"')
        rest = [*beat, *(json.loads(line) for line in listener.stdout or ())]
    of_the_run = [event for event in rest if event["event"] not in ("attached", "beat")]
    assert first + of_the_run == events(job)


def test_a_run_that_is_stopped_leaves_no_process_and_no_clocks(
    folder: Path, governor: Path
) -> None:
    job = order(folder, policy=LONG)
    with kept(folder, job) as listener:
        until(listener, '"timing"')
        worker = group(job)
        fixed_by(worker, governor)
        assert len(alive(worker)) == 2  # and the process that measures
        subprocess.run(agent(folder, "stop", job.name), cwd=folder, check=True)
        wait_for(lambda: not alive(worker))
        assert governor.read_text() == "ondemand"
    subprocess.run(
        agent(folder, "stop", job.name), cwd=folder, check=True
    )  # there is none any more


def test_a_run_that_takes_too_long_says_what_it_was_at(folder: Path, governor: Path) -> None:
    job = order(folder, policy=LONG, limit_s=6.0)
    with kept(folder, job) as listener:
        until(listener, '"timing"')
        fixed_by(group(job), governor)
        last = [json.loads(line) for line in listener.stdout or ()][-1]
    assert (last["event"], last["kind"]) == ("error", "time")
    assert "not done after 6 s" in last["message"]
    assert "it was at: timing" in last["message"]
    wait_for(lambda: not alive(group(job)))
    assert governor.read_text() == "ondemand"


def test_clocks_that_jump_do_not_end_a_run_and_nobody_does(folder: Path) -> None:
    job = order(folder, policy=LONG, alone_s=2.0)
    with kept(folder, job) as listener:
        until(listener, '"opening"')
        listener.kill()
    for year in range(8):  # a listener's signs of life by a clock that goes back
        os.utime(state(job), (2e9 - year * 3e7, 2e9 - year * 3e7))
        time.sleep(0.5)
    assert alive(group(job))
    wait_for(lambda: not alive(group(job)))
    assert events(job)[-1]["kind"] == "alone"


def test_a_run_whose_files_are_removed_ends(folder: Path) -> None:
    job = order(folder, policy=LONG)
    with kept(folder, job) as listener:
        until(listener, '"opening"')
        worker = group(job)
        state(job).unlink()
        last = [json.loads(line) for line in listener.stdout or ()][-1]
    assert "removed from the device in the middle" in last["message"]
    wait_for(lambda: not alive(worker))
    job.unlink()
    assert "not on the device any more" in listen(folder, job, 5)[-1]["message"]


@pytest.mark.parametrize(
    ("boot", "kind", "words"),
    [(None, "killed", "killed in the middle of the run"), ("old", "restart", "was restarted")],
)
def test_why_a_worker_is_gone(folder: Path, boot: str | None, kind: str, words: str) -> None:
    job = order(folder, policy=LONG)
    with kept(folder, job) as listener:
        until(listener, '"opening"')
        worker = group(job)
        if boot is not None:
            state(job).write_text(json.dumps({"pid": worker, "boot": boot}))
        os.kill(worker, signal.SIGKILL)
        last = [json.loads(line) for line in listener.stdout or ()][-1]
    assert (last["event"], last["kind"]) == ("error", kind)
    assert words in last["message"]
    wait_for(lambda: not alive(worker))  # the process that measures ends by itself


def test_a_child_ends_with_whoever_started_it(folder: Path) -> None:
    """Not only when it has something to say, which would fail: it may hang in a runtime."""
    child = subprocess.Popen(
        agent(folder, order(folder, policy=LONG).name, "bench"),
        cwd=folder,
        env={**os.environ, HELD: "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(20) == ABANDONED
    finally:
        child.kill()
        child.wait()


def test_no_room_for_events(folder: Path) -> None:
    """What was written is whole lines, and the reason is told by whoever listens."""
    job = order(folder)
    heard = listen(folder, job, limits="ulimit -f 4")  # of 512 bytes each: less than the samples
    assert (heard[-1]["event"], heard[-1]["kind"]) == ("error", "disk")
    assert "--folder /other/place" in heard[-1]["message"]
    assert events(job) == heard[1:-1]


def test_a_disk_that_cannot_be_written_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that could not even say why it ended was not killed for its memory."""

    def refused(**_: object) -> object:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    run = tmp_path / "run-0"
    run.mkdir()
    assert keeper._why(run).kind == "killed"
    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    why = keeper._why(run)
    assert why.kind == "disk"
    assert "cannot be written to" in str(why)
    assert "Read-only file system" in str(why)


def test_what_a_system_refuses_is_told_in_its_own_words(folder: Path) -> None:
    job = order(folder)
    last = listen(folder, job, limits="ulimit -n 11")[-1]  # the worker starts, its child does not
    assert (last["event"], last["kind"]) == ("error", "internal")
    assert "Too many open files" in last["message"]
    said = state(job).with_name("said").read_text()
    assert "Traceback (most recent call last)" in said
    assert "Too many open files" in said


def test_a_lock_that_cannot_be_opened_is_a_sentence(folder: Path) -> None:
    (folder / turns.LOCK).mkdir()
    last = listen(folder, order(folder))[-1]
    assert (last["event"], last["kind"]) == ("error", "disk")
    assert "edgekd.lock cannot be opened: Is a directory" in last["message"]


def test_a_model_too_big_for_memory(folder: Path, tiny: Mapping[str, Any]) -> None:
    tiny["classifier"](folder / "a.onnx", size=(4000, 4000))
    limit = f"ulimit -v {500 * 2**10}"  # KiB: enough for the runtime, not for its input as well
    last = listen(folder, order(folder), limits=limit)[-1]
    assert last["event"] == "error"
    assert last["kind"] == "memory"


def test_a_turn_is_signed_while_it_lasts(tmp_path: Path) -> None:
    job = {"owner": "me@desk", "limit_s": 90.0, "models": [{"name": "a"}, {"name": "b"}]}
    notes: list[Event] = []
    with turns.take_turn(tmp_path, job, notes.append):
        words = r"me@desk has been using .*\(profile a b\), for at most another 90 s.*wait in line"
        with pytest.raises(AgentError, match=words) as caught:
            turns.take_turn(tmp_path, {"task": "build"}, notes.append)
        assert caught.value.kind == "busy"
        with pytest.raises(AgentError, match="after 1 s of waiting"):
            turns.take_turn(tmp_path, {"policy": {"wait_s": 1.0}}, notes.append)
        turns.take_turn(tmp_path, {"task": "describe"}, notes.append).close()  # disturbs nobody
    assert [note["text"].partition(":")[0] for note in notes] == ["waiting"]
    turns.take_turn(tmp_path, {}, notes.append).close()  # what is left of the owner binds nobody


def test_to_ask_who_holds_a_device_does_not_keep_others_from_it(tmp_path: Path) -> None:
    turns.take_turn(tmp_path, {}, lambda _: None).close()
    asking = (tmp_path / turns.LOCK).open()
    fcntl.flock(asking, fcntl.LOCK_SH)
    threading.Timer(turns.ASKING_S / 2, asking.close).start()
    turns.take_turn(tmp_path, {}, lambda _: None).close()


def test_two_accounts_take_turns(tmp_path: Path) -> None:
    """One is asked by a mask that keeps the other from what it makes."""
    before = os.umask(0o077)
    try:
        turns.take_turn(tmp_path, {}, lambda _: None).close()
    finally:
        os.umask(before)
    assert (tmp_path / turns.LOCK).stat().st_mode & 0o777 == 0o666


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / turns.LOCK).symlink_to(tmp_path / "mine")
    with pytest.raises(AgentError, match="cannot be opened"):
        turns.take_turn(tmp_path, {}, lambda _: None)
    assert (tmp_path / "mine").read_text() == "precious"


def test_whoever_waited_for_a_lock_that_was_removed_takes_the_one_of_now(tmp_path: Path) -> None:
    """Else two would hold two files of one name."""
    cleared = turns.take_alone(tmp_path)

    def clear() -> None:
        (tmp_path / turns.LOCK).unlink()
        cleared.close()

    threading.Timer(0.3, clear).start()
    job = {"owner": "me@desk", "policy": {"wait_s": 10.0}}
    held = turns.take_turn(tmp_path, job, lambda _: None)
    with held, pytest.raises(AgentError, match="me@desk"):
        turns.take_turn(tmp_path, {"task": "furnish"}, lambda _: None)
