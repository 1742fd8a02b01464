"""Two commands in one folder: the second is told who has it, and what a killed one left is void."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgekd import claims
from edgekd.artifact import Artifact
from edgekd.claims import CLAIM, claim, claim_name
from edgekd.errors import UsageError
from edgekd.flow.exporting import export_network
from edgekd.recipe import Export
from tests.cli.conftest import Command, edgekd
from tests.cli.test_launched import TORCHRUN, distilling, ended, launch, lines

__all__ = ["edgekd"]

HOLDER = """
import os, sys
from pathlib import Path
from edgekd import claims
with getattr(claims, sys.argv[1])(Path(sys.argv[2]), sys.argv[3]):
    if sys.argv[4:]:
        reader, writer = os.pipe()
        if not os.fork():  # as a worker that goes on for a while when its parent is killed
            os.close(writer)
            os.read(reader, 1)
            os.read(0, 1)
            os._exit(0)
    print("held", flush=True)
    sys.stdin.read()
"""
Holder = subprocess.Popen[str]


@contextmanager
def held(place: Path, verb: str = "teach", kind: str = "claim", *more: str) -> Iterator[Holder]:
    """Another process that holds a claim until the block ends."""
    command = [sys.executable, "-c", HOLDER, kind, str(place), verb, *more]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def entries(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_who_comes_second_is_told_who_it_is_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "r8"
    with held(out) as holder:
        before = entries(tmp_path)
        with pytest.raises(UsageError) as refused, claim(out, "distill"):
            pytest.fail("it was let in")
        assert entries(tmp_path) == before
    found = re.fullmatch(
        r"(.+) is in use by edgekd teach, process (\d+) on .+, since (\S+ \S+)\. One command at a "
        r"time writes to a folder: wait until that one has ended, or choose another --output\.",
        str(refused.value),
    )
    assert found is not None
    assert (found[1], int(found[2])) == (str(out), holder.pid)
    assert found[3].startswith("20")
    assert entries(tmp_path) == []  # the folders were the claim's alone
    with claim(out, "distill"):
        (out / "made").touch()
    assert entries(tmp_path) == ["runs", "runs/r8", "runs/r8/made"]


@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        ("run", "run/student", "run/student lies in {}/run, which is in use by edgekd teach"),
        ("run/a/student", "run", "run/a/student in run is in use by edgekd teach"),
        ("run", "run/a/b/c/d/e/f", "run/a/b/c/d/e/f lies in {}/run, which is in use"),
        ("link", "run", "run is in use"),
    ],
)
def test_a_claim_is_one_on_all_that_lies_in_a_folder(
    theirs: str, ours: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    with held(tmp_path / theirs):
        with pytest.raises(UsageError) as refused, claim(Path(ours), "run"):
            pytest.fail("it was let in")
        assert words.format(tmp_path) in str(refused.value)
        with claim(tmp_path / "runs", "run"):  # which begins alike, and is another folder
            pass
    assert entries(tmp_path) == ["link", "run"]


@pytest.mark.parametrize("take", [claim, claim_name])
def test_nobody_claims_the_whole_file_system(take: Callable[[Path, str], Any]) -> None:
    with (
        pytest.raises(UsageError, match=r"/ is the whole file system\. Name a place in it"),
        take(Path("/"), "deploy"),
    ):
        pytest.fail("it was let in")


def test_in_a_folder_of_many_files_the_nearest_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "MOST", 40)
    for label in ("a", "b"):
        (tmp_path / "run" / "images" / label).mkdir(parents=True)
        for number in range(50):
            (tmp_path / "run" / "images" / label / str(number)).touch()
    listed: list[str] = []
    scan = os.scandir

    @contextmanager
    def scandir(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        with scan(folder) as inner:
            yield (listed.append(entry.name) or entry for entry in inner)  # type: ignore[func-returns-value]

    with held(tmp_path / "run" / "z" / "student"):
        refused = pytest.raises(UsageError, match=r"run/z/student in .* is in use")
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", scandir)
            with refused, claim(tmp_path / "run", "run"):
                pytest.fail("it was let in")
    assert len(listed) <= 40


def test_a_name_keeps_out_only_what_would_write_to_it(tmp_path: Path) -> None:
    page = tmp_path / "run" / "report.html"
    with held(page, "report", "claim_name"):
        with claim(tmp_path / "run" / "student", "distill"), claim_name(page.with_name("x"), "a"):
            pass
        for other, what in ((claim, tmp_path), (claim, page.parent), (claim_name, page)):
            with pytest.raises(UsageError, match="in use by edgekd report"), other(what, "run"):
                pytest.fail("it was let in")
    deployed = tmp_path / "deployed"
    for theirs, ours in (("claim", claim_name), ("claim_name", claim)):
        refused = pytest.raises(UsageError, match="deployed is in use")
        with held(deployed, "run", theirs), refused, ours(deployed, "deploy"):
            pytest.fail("it was let in")
    with claim_name(tmp_path / ("long" * 63), "deploy"):  # a name that none could be added to
        pass
    assert entries(tmp_path) == []


@pytest.mark.parametrize("more", [[], ["with a child"]])
def test_what_a_killed_one_left_is_taken_over(more: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run" / "student"
    with held(out, "teach", "claim", *more) as holder:
        holder.kill()
        holder.wait()
        assert (out / CLAIM).exists()
        with claim(out, "distill"):
            assert "edgekd distill" in (out / CLAIM).read_text()
        (out / CLAIM).write_text("left")
        (out / "made").touch()
        with claim(tmp_path / "run", "run"):  # what lies there of old goes, wherever it is
            assert entries(out) == ["made"]
    assert entries(tmp_path / "run") == ["student", "student/made"]


def test_work_within_is_let_in_and_that_of_another_thread_is_not(tmp_path: Path) -> None:
    found = []

    def second() -> None:
        try:
            with claim(tmp_path / "run" / "student", "teach"):
                found.append("let in")
        except UsageError as error:
            found.append(str(error))

    with claim(tmp_path / "run", "run"):
        with claim(tmp_path / "run", "run"), claim(tmp_path / "run" / "student", "distill"):
            pass
        with claim_name(tmp_path / "run" / "report.html", "report"):
            assert entries(tmp_path) == ["run", f"run/{CLAIM}"]
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert f"which is in use by edgekd run, process {os.getpid()}" in found[0]
    assert entries(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError("bad"), KeyboardInterrupt(), SystemExit(1)])
def test_nothing_is_left_however_it_ends(error: BaseException, tmp_path: Path) -> None:
    descriptors = [*Path("/proc/self/fd").iterdir()]
    with pytest.raises(type(error)), claim(tmp_path / "run", "run"):
        raise error
    assert entries(tmp_path) == []
    assert len([*Path("/proc/self/fd").iterdir()]) == len(descriptors)


def test_a_folder_that_is_gone_meanwhile(tmp_path: Path) -> None:
    with claim(tmp_path / "run", "run"):
        (tmp_path / "run" / CLAIM).unlink()
        (tmp_path / "run").rmdir()
        with held(tmp_path / "run"):  # another one with its name is not this one's to clear
            before = entries(tmp_path)
            assert before == ["run", f"run/{CLAIM}"]
    assert entries(tmp_path) == []


def test_without_locks_nobody_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with held(tmp_path / "run"), monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        with claim(tmp_path / "run", "run"):
            pass


@pytest.mark.parametrize("said", [b"\x1b[2J", b"\xff" * 999, b"a\nb", b""])
def test_what_a_claim_says_is_not_believed(said: bytes, tmp_path: Path) -> None:
    with held(tmp_path / "run"):
        (tmp_path / "run" / CLAIM).write_bytes(said)
        with pytest.raises(UsageError) as refused, claim(tmp_path / "run", "run"):
            pytest.fail("it was let in")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 700


def test_something_else_of_that_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / CLAIM)
    target = tmp_path / "precious"
    target.write_text("kept")
    for folder in ("linked", "folder"):
        (tmp_path / folder).mkdir()
    (tmp_path / "linked" / CLAIM).symlink_to(target)
    (tmp_path / "folder" / CLAIM).mkdir()
    for folder in ("linked", "folder"):  # the fifo above them does not hang it either
        with pytest.raises(UsageError, match="cannot write"), claim(tmp_path / folder, "run"):
            pytest.fail("it was let in")
    assert target.read_text() == "kept"


MEETING = """
import sys, time
from pathlib import Path
from edgekd.claims import claim
from edgekd.errors import UsageError

place, met = map(Path, sys.argv[1:])
latest, mark, let_in = time.monotonic() + 30, place / "mark", 0


def alone():
    return not met.exists() and time.monotonic() < latest


def ask():
    global let_in
    try:
        with claim(place, "run"):
            mark.mkdir()
            while alone():
                time.sleep(0.01)
            mark.rmdir()
            let_in += 1
    except UsageError as error:
        assert "in use" in str(error), error
        met.touch()


while alone():
    ask()
until = time.monotonic() + 0.5
while time.monotonic() < until:
    ask()
print(let_in)
"""
"""Whoever is let in first stays until another one was refused; then all ask without a pause."""


def test_one_of_many_that_begin_together(tmp_path: Path) -> None:
    """However close: one at most has it at a time, and all that are let in find it empty."""
    place, met = tmp_path / "place", tmp_path / "met"
    place.mkdir()
    command = [sys.executable, "-c", MEETING, str(place / "run"), str(met)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    counts = [int(process.communicate(timeout=60)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert met.exists(), "nobody was refused"
    assert sum(counts) > 3
    assert entries(place) in ([], ["run"])  # who made it was in it with the next one


# ---- verbs ----

SMALL = ["--data", "digits", "--size", "8", "--limit", "300", "--epochs", "1"]
PAIR = ["--teacher", "TAUGHT", "--student", "resnet8"]
VERBS: dict[str, list[str]] = {
    "teach": ["teach", "--teacher", "resnet8", *SMALL, "-o", "OUT"],
    "distill": ["distill", *PAIR, *SMALL, "-o", "OUT"],
    "compare": ["compare", *PAIR, "--method", "ce + kd", *SMALL, "-o", "OUT"],
    "export": ["export", "TAUGHT", "-o", "OUT"],
    "scout": ["scout", "--students", "resnet8", "--size", "8", "-o", "OUT"],
    "run": ["run", *PAIR, *SMALL, "-o", "OUT"],
    "mission": ["run", "--teacher", "TAUGHT", "--budget", "p95<=9ms", *SMALL, "-o", "OUT"],
    "report": ["report", "TAUGHT", "-o", "OUT"],
    "deploy": ["deploy", "ONNX", "-o", "OUT"],
    "profile": ["profile", "ONNX", "-o", "OUT/profile.json"],
}


@pytest.fixture(scope="module")
def exported(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    return export_network(Artifact.open(taught), folder, Export(samples=16)).path


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_is_refused_at_once(
    name: str, edgekd: Command, taught: Path, exported: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    places = {"TAUGHT": str(taught), "ONNX": str(exported), "OUT": str(out)}
    places["OUT/profile.json"] = str(out / "profile.json")
    with held(out) as holder:
        before = entries(tmp_path)
        answer = edgekd(*(places.get(word, word) for word in VERBS[name]))
        assert entries(tmp_path) == before
    assert answer.code == 2, answer.err
    assert answer.out == ""
    assert f"in use by edgekd teach, process {holder.pid}" in answer.err
    assert "decode" not in answer.err  # before any work


def test_the_library_is_kept_out_as_well(taught: Path, tmp_path: Path) -> None:
    with held(tmp_path / "out"), pytest.raises(UsageError, match="is in use by edgekd teach"):
        export_network(Artifact.open(taught), tmp_path / "out", Export())


def test_a_run_and_a_stage_of_it_keep_each_other_out(
    edgekd: Command, taught: Path, tmp_path: Path
) -> None:
    words = [word.replace("TAUGHT", str(taught)) for word in (*PAIR, *SMALL)]
    for theirs, ours in (("run/student", "run"), ("run", "run/student")):
        verb = "run" if ours == "run" else "distill"
        with held(tmp_path / theirs, "distill"):
            answer = edgekd(verb, *words, "-o", tmp_path / ours)
        assert answer.code == 2, answer.err
        assert "in use by edgekd distill" in answer.err
    assert entries(tmp_path) == []


@pytest.mark.slow
def test_a_verb_holds_its_folder_as_long_as_it_works(taught: Path, tmp_path: Path) -> None:
    """And a second command of it is refused, in a process of its own; then the first goes on."""
    out = tmp_path / "student"
    words = [word.replace("TAUGHT", str(taught)) for word in (*PAIR, *SMALL)]
    command = [sys.executable, "-m", "edgekd", "distill", *words, "-o", str(out)]
    first = subprocess.Popen([*command, "--epochs", "40"], stderr=subprocess.DEVNULL)
    wait_until(lambda: (out / CLAIM).exists() and bool((out / CLAIM).read_text()), first)
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.poll() is None
    assert second.returncode == 2
    assert f"in use by edgekd distill, process {first.pid} on " in second.stderr
    assert first.wait(timeout=120) == 0
    assert [name for name in entries(out) if CLAIM in name] == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_with_workers_that_decode(number: int, taught: Path, tmp_path: Path) -> None:
    """They are forks of the process that holds the folder, and let go of it with that."""
    out = tmp_path / "student"
    words = [word.replace("TAUGHT", str(taught)) for word in (*PAIR, *SMALL)]
    streamed = ["--set", "data.memory_gb=0.000001", "--set", "data.workers=2", "--epochs", "200"]
    command = [sys.executable, "-m", "edgekd", "distill", *words, *streamed, "-o", str(out)]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_until(lambda: (out / "training" / "metrics.jsonl").exists(), first)
    first.send_signal(number)
    first.wait(timeout=120)
    with claim(out, "distill"):
        pass
    assert [name for name in entries(out) if CLAIM in name] == []


@pytest.mark.slow
def test_all_processes_of_a_launcher_are_refused_with_one_message(
    taught: Path, tmp_path: Path
) -> None:
    with held(tmp_path / "student") as holder:
        running = launch(TORCHRUN, *distilling(taught, tmp_path / "student"))
        printed, said = ended(running)
    assert running.returncode == 1  # torchrun's own
    assert "exitcode  : 2" in said
    told = lines(said)
    assert len(told) == 2, said
    assert f"in use by edgekd teach, process {holder.pid}" in told[0]
    assert printed == ""
    assert entries(tmp_path) == []
    running = launch(TORCHRUN, *distilling(taught, tmp_path / "student"))
    printed, said = ended(running)
    assert running.returncode == 0, said
    assert json.loads(printed)["path"] == str(tmp_path / "student")
    assert [name for name in entries(tmp_path) if CLAIM in name] == []


def wait_until(true: Callable[[], bool], running: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    while not true():
        assert running.poll() is None
        assert time.monotonic() - began < 400
        time.sleep(0.02)


def test_descriptors_do_not_pass_on_to_programs(tmp_path: Path) -> None:
    with claim(tmp_path / "run", "run"):
        (lock,) = claims._locks
        assert not os.get_inheritable(lock)
