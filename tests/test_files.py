"""Files appear complete or not at all, and a refusal to write becomes a sentence."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from edgekd.devices.local import Local
from edgekd.errors import UsageError
from edgekd.files import (
    DRAFT,
    aside,
    check_folder,
    contents,
    private_folder,
    sha256,
    sweep,
    write_json,
    write_text,
    writing,
)
from edgekd.scratch import temporary


def entries(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB; only root can make one."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"cannot mount a small file system: {error}")
    if made.returncode:
        pytest.skip(f"cannot mount a small file system: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_file_appears_whole_where_the_folder_was_not(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "text"
    with aside(path) as draft:
        draft.write_text("whole")
        assert not path.exists()
        assert draft.parent.parent == path.parent  # the same file system, so renaming is atomic
    assert path.read_text() == "whole"
    assert entries(tmp_path / "a" / "b") == ["text"]


@pytest.mark.parametrize("failure", [RuntimeError("bad"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failure_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, failure: BaseException
) -> None:
    path = tmp_path / "text"
    path.write_text("old")

    def write_half() -> None:
        with aside(path) as draft:
            draft.write_text("ha")
            raise failure

    with pytest.raises(type(failure)):
        write_half()
    assert path.read_text() == "old"
    assert entries(tmp_path) == ["text"]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with aside(path) as draft:
        draft.mkdir()
        (draft / "new").write_text("1")
    assert entries(tmp_path) == ["folder", "folder/new"]


def test_what_is_renamed_was_flushed_to_the_disk_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.fstat(fd).st_ino))
    with aside(tmp_path / "folder") as draft:
        (draft / "inner").mkdir(parents=True)
        (draft / "inner" / "file").write_text("1")
        expected = (draft / "inner" / "file").stat().st_ino
    assert flushed == [expected, tmp_path.stat().st_ino]  # the content, then the new name


def test_a_block_that_wrote_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"), aside(tmp_path / "text"):
        pass
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    ("blocked", "reason"),
    [("file/text", "Not a directory|File exists"), ("folder", "Is a directory")],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, blocked: str, reason: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    before = entries(tmp_path)
    message = rf"cannot write {tmp_path / blocked}: ({reason})\. Free some space, make it"
    with pytest.raises(UsageError, match=message):
        write_text(tmp_path / blocked, "x")
    assert entries(tmp_path) == before


def test_a_file_at_the_root_has_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: BytesIO())
    check_folder(Path("/"))


def test_a_folder_that_goes_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    make, asked = tempfile.TemporaryFile, list[str]()

    def vanish(dir: Path) -> Any:
        asked.append(dir.name)
        if dir.name == "run":
            dir.rmdir()
        return make(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", vanish)
    check_folder(tmp_path / "run")
    assert asked == ["run", tmp_path.name]


def test_a_folder_that_goes_and_comes_again_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two commands do that begin with the same folder: each removes an empty one it made."""
    make, asked = tempfile.TemporaryFile, list[Path]()

    def blink(dir: Path) -> Any:
        asked.append(dir)
        if len(asked) < 4:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return make(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", blink)
    check_folder(tmp_path)
    assert len(asked) == 4


def test_no_more_is_allocated_than_there_is(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"abc")
    tracemalloc.start()
    assert contents(tmp_path / "small", 2**30) == b"abc"
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**20


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT])
def test_the_operating_system_s_refusal_becomes_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(UsageError, match=f"cannot write .*text: {os.strerror(code)}") as refused:
        write_text(tmp_path / "text", "x")
    assert refused.value.exit_code == 2
    assert isinstance(refused.value.__cause__, OSError)


def test_a_full_disk_leaves_nothing_behind(full_disk: Path) -> None:
    (full_disk / "small").write_text("kept")
    with pytest.raises(UsageError, match="No space left on device"):
        write_text(full_disk / "large", "x" * 200_000)
    assert entries(full_disk) == ["small"]
    write_text(full_disk / "small", "there is room for this")


def test_an_error_that_is_not_the_operating_system_s_passes_through() -> None:
    with pytest.raises(ValueError, match="own"), writing(Path("x")):
        raise ValueError("own")
    with pytest.raises(OSError, match="without a number"), writing(Path("x")):
        raise OSError("without a number")


@pytest.mark.parametrize("name", ["/dev/edgekd-none", "/proc/self/fd/1", "/dev/stdout"])
def test_the_systems_own_names_are_no_places_for_files(name: str) -> None:
    """Root could put a file in the place of a link that all programs write to."""
    with pytest.raises(UsageError, match=f"{name} is a device or a pipe"):
        write_text(Path(name), "x")


def test_json_is_written_whole_and_without_infinities(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": [1.5, None, "ä"]})
    assert json.loads(path.read_text("utf-8")) == {"a": [1.5, None, "ä"]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text("utf-8")) == {"a": [1.5, None, "ä"]}
    assert entries(tmp_path) == ["value.json"]


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 5000)  # more than one piece
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


# ---- what a killed process leaves ----


def killed_while(folder: Path, body: str) -> None:
    """Run ``body`` in another process, which is killed in the middle of it."""
    code = f"""
import os, signal
from pathlib import Path
from edgekd.files import aside, private_folder, write_text
folder = Path({str(folder)!r})
def die(*ignored):
    os.kill(os.getpid(), signal.SIGKILL)
{body}
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_draft_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    with aside(tmp_path / "deep" / "text") as draft:
        draft.write_text("mine")
        sweep(tmp_path)
        write_text(tmp_path / "deep" / "other", "x")
    assert (tmp_path / "deep" / "text").read_text() == "mine"
    assert entries(tmp_path) == ["deep", "deep/other", "deep/text"]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "run" / ".edgekd-mine").mkdir(parents=True)
    killed_while(tmp_path / "run", "with aside(folder / 'a' / 'text') as draft: die()")
    assert len(entries(tmp_path)) == 4
    sweep(tmp_path)
    assert entries(tmp_path) == ["run", "run/.edgekd-mine", "run/a"]
    sweep(tmp_path / "nowhere")


def test_the_next_draft_in_the_same_place_sweeps_too(tmp_path: Path) -> None:
    killed_while(tmp_path, "with private_folder(folder / 'text') as draft: die()")
    assert len(entries(tmp_path)) == 1
    write_text(tmp_path / "text", "whole")
    assert entries(tmp_path) == ["text"]


@pytest.mark.parametrize("at", [1, 2])
def test_a_folder_that_made_room_is_not_lost(tmp_path: Path, at: int) -> None:
    """Between the two renames that exchange a folder, and before them."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "old").touch()
    body = f"""
import sys
seen = []
def hear(event, arguments):
    if event == "os.rename":
        seen.append(event)
        len(seen) == {at} and die()
sys.addaudithook(hear)
with aside(folder / "made") as draft:
    draft.mkdir()
    (draft / "new").touch()
"""
    killed_while(tmp_path, body)
    sweep(tmp_path)
    assert entries(tmp_path) == ["made", ["made/old", "made/new"][at - 1]]


def test_where_nothing_can_be_locked_all_is_written_and_nothing_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOTSUP, "no locks here")

    left = tmp_path / ".edgekd-draft.abcdefgh"
    left.mkdir()
    monkeypatch.setattr(fcntl, "flock", refuse)
    write_text(tmp_path / "text", "whole")
    assert entries(tmp_path) == [left.name, "text"]


def test_what_a_killed_process_left_in_the_place_for_such_goes_at_a_later_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what another one uses stays, as it is locked."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"{DRAFT}killed" / "run").mkdir(parents=True)
    (tmp_path / "somebody's").mkdir()
    with temporary() as used:
        assert entries(tmp_path) == sorted([used.name, "somebody's"])
        with temporary() as other:
            assert used.is_dir()
            assert other != used
        device = Local()
        assert {used.name, device.folder.name} < set(entries(tmp_path))
        del device
    assert entries(tmp_path) == ["somebody's"]


def test_a_folder_that_a_sweep_has_just_locked_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is still there, and about to be deleted."""
    make = tempfile.mkdtemp
    held: dict[Path, int] = {}

    def made(prefix: str, dir: Path) -> str:
        path = make(prefix=prefix, dir=dir)
        if not held:
            held[Path(path)] = os.open(path, os.O_RDONLY)
            fcntl.flock(held[Path(path)], fcntl.LOCK_EX)
        return path

    monkeypatch.setattr(tempfile, "mkdtemp", made)
    with private_folder(tmp_path / "text") as private:
        assert private not in held
        os.close(*held.values())
        sweep(tmp_path)
        assert private.is_dir()
    assert entries(tmp_path) == []
