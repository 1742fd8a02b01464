"""Scratch: where there is no room for temporary files, a sentence says where, and what to do."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from edgekd.devices.local import Local
from edgekd.errors import UsageError
from edgekd.scratch import temporary

WORDS = r"cannot write temporary files to .*: .*\. Free some space there, or set TMPDIR"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    (tmp_path / "place").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "place"))
    return tmp_path / "place"


def refuse(number: int, *names: Path) -> OSError:
    """As the system says it, of files or of a descriptor."""
    if len(names) > 1:
        return OSError(number, os.strerror(number), str(names[0]), None, str(names[1]))
    return OSError(number, os.strerror(number), *map(str, names))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
def test_no_room_for_what_is_written_meanwhile(number: int, place: Path) -> None:
    with pytest.raises(UsageError, match=WORDS), temporary():
        raise refuse(number)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES])
def test_what_is_refused_in_the_folder_itself(number: int, place: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=WORDS), temporary() as folder:
        raise refuse(number, folder / "deep" / "file")
    with pytest.raises(UsageError, match=WORDS), temporary() as folder:  # a copy tells both
        raise refuse(number, tmp_path / "source", folder / "copy")
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("name", ["elsewhere/model.onnx", "place/model.onnx"])
def test_what_cannot_be_read_elsewhere_is_no_want_of_room(
    number: int, name: str, tmp_path: Path
) -> None:
    """Be it in the same place as the temporary files, where a user may well work."""
    with pytest.raises(OSError, match=name) as refused, temporary():
        raise refuse(number, tmp_path / name)
    assert refused.value.errno == number


def test_a_link_to_what_cannot_be_read_is_no_want_of_room(tmp_path: Path) -> None:
    def linked(link: Path) -> OSError:
        link.symlink_to(tmp_path / "model.onnx")
        return refuse(errno.EACCES, link)

    with pytest.raises(PermissionError), temporary() as folder:
        raise linked(folder / "model.onnx")


def test_a_disk_that_fails_at_no_file_by_name_is_not_said_to_be_full(place: Path) -> None:
    words = (
        rf"a disk failed \(Input/output error\): the one with the temporary files in {place}, or"
    )
    with pytest.raises(UsageError, match=words) as refused, temporary():
        raise refuse(errno.EIO)
    assert "Free some space" not in str(refused.value)


def test_what_is_not_there_is_another_matter() -> None:
    with pytest.raises(FileNotFoundError), temporary() as folder:
        (folder / "nothing").read_text()


def test_no_room_for_the_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "mkdtemp", refused)
    with pytest.raises(UsageError, match=WORDS), temporary():
        pass
    with pytest.raises(UsageError, match=WORDS):
        Local()
