"""What is private is nobody else's to read, whatever the user's umask is."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from edgekd import files, scratch
from edgekd.devices._hosts import parse
from edgekd.devices._scripts import ENTER
from edgekd.devices.local import Local
from edgekd.devices.ssh import _Link


@pytest.fixture
def open_handed() -> Iterator[None]:
    """A user whose files anyone may read, unless they are made otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("open_handed")
@pytest.mark.parametrize(
    "made",
    [scratch.temporary, lambda: files.private_folder(Path("beside"))],
    ids=["temp", "beside"],
)
def test_a_private_folder_is_private(
    made: Callable[[], AbstractContextManager[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with made() as folder:
        assert mode(folder) == 0o700


@pytest.mark.usefixtures("open_handed")
def test_a_device_s_folder_and_the_link_to_it_are_private(tmp_path: Path) -> None:
    assert mode(Local().folder) == 0o700
    assert mode(_Link(parse("ssh://user@board"), "board").private) == 0o700
    named = Local("local", "", "", str(tmp_path / "kept"))
    named.push(Path(__file__), "run-0/file")
    assert mode(tmp_path / "kept") == 0o700


@pytest.mark.usefixtures("open_handed")
def test_so_is_the_folder_on_a_device(tmp_path: Path) -> None:
    script = f"{ENTER}: > file; mkdir inner"
    subprocess.run(["sh", "-c", script, "sh", str(tmp_path / "there")], check=True)
    there = tmp_path / "there"
    assert [mode(path) for path in (there, there / "file", there / "inner")] == [
        0o700,
        0o600,
        0o700,
    ]
