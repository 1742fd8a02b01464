"""The user's own devices: listed, edited, cleaned and forgotten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekd.boards import Connect, own_file, read_board
from edgekd.devices.local import Local
from edgekd.errors import DeviceError, UsageError
from edgekd.flow import roster
from edgekd.flow.boarding import add
from edgekd.flow.roster import clear, furnished, is_own, remove, rows, set_python


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own devices."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config/edgekd/devices"


def test_devices_are_listed_and_a_broken_file_is_no_hindrance(home: Path) -> None:
    add("it", Connect("me@it"), kind="rk3588", offline=True)
    (home / "broken.toml").write_text("[connect")
    (home / "my-kind.toml").write_text('title = "a kind of my own"\n')
    found = {row["name"]: row for row in rows()}
    assert set(found) == {"it", "broken"}
    assert found["it"]["kind"] == "rk3588"
    assert found["it"]["problem"] is None
    assert "cannot read the device profile" in found["broken"]["problem"]


def test_a_device_is_forgotten_and_cleaned(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    add("it", Connect("local", folder=str(folder)), kind="none", offline=True)
    (tmp_path / "a").write_text("a")
    Local("local", folder=str(folder)).push(tmp_path / "a", "0123456789abcdef/a")
    assert remove("it", clean=True) == home / "it.toml"
    assert not folder.exists()
    assert rows() == []
    with pytest.raises(UsageError, match="there is no device 'it' of yours; there are: none"):
        remove("it")


def test_a_folder_in_place_of_a_device_is_named(home: Path) -> None:
    (home / "it.toml").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"it\.toml is a folder; expected the file of a device"):
        remove("it", clean=True)
    assert (home / "it.toml").is_dir()


@pytest.mark.parametrize("broken", ["[connect", "fifo", "dangling"])
def test_a_device_whose_file_is_broken_is_forgotten(broken: str, home: Path) -> None:
    file = home / "it.toml"
    home.mkdir(parents=True)
    if broken == "fifo":
        os.mkfifo(file)
    elif broken == "dangling":
        file.symlink_to("nowhere")
    else:
        file.write_text(broken)
    assert remove("it") == file
    assert not os.path.lexists(file)


def test_a_device_that_cannot_be_cleaned_is_not_forgotten(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("it", Connect("me@it"), kind="none", offline=True)

    class Gone:
        def clear(self) -> None:
            raise DeviceError("it is off.")

    monkeypatch.setattr(roster, "reach", lambda name: Gone())
    with pytest.raises(DeviceError, match=r"it is off.* leave --clean out to forget it"):
        remove("it", clean=True)
    assert (home / "it.toml").is_file()
    remove("it")


def test_the_python_is_edited_and_the_rest_is_left(home: Path) -> None:
    add("it", Connect("me@it"), kind="rk3588", offline=True)
    text = own_file("it").read_text() + "\n[measure]\nthreads = 3  # mine\n"
    own_file("it").write_text(text)
    set_python("it", "/venv-1/bin/python")
    assert read_board("it").connect.python == "/venv-1/bin/python"
    assert "threads = 3  # mine" in own_file("it").read_text()
    set_python("it", "/other")
    assert read_board("it").connect.python == "/other"
    set_python("it", "")
    assert own_file("it").read_text() == text
    own_file("it").write_text('connect = { address = "me@it" }\n')
    with pytest.raises(UsageError, match="could not be edited"):
        set_python("it", "/venv")
    assert own_file("it").read_text() == 'connect = { address = "me@it" }\n'


@pytest.mark.parametrize(
    ("python", "left"), [("/x/venv-0123456789ab/bin/python", ""), ("/usr/bin/python3", None)]
)
def test_an_environment_that_was_cleared_is_forgotten(
    python: str, left: str | None, tmp_path: Path
) -> None:
    connect = Connect("local", python, str(tmp_path / "there"))
    add("it", connect, kind="none", offline=True)
    clear("it")
    assert read_board("it").connect.python == (python if left is None else left)


def test_the_python_from_before_an_environment_comes_back(home: Path, tmp_path: Path) -> None:
    connect = Connect("local", "/usr/bin/python3.11", str(tmp_path / "there"))
    add("it", connect, kind="none", offline=True)
    text = own_file("it").read_text()
    for number in "12":  # another one, with newer packages: the first is not what was before
        furnished("it", f"/x/venv-{number * 12}/bin/python")
    found = read_board("it").connect
    assert found.python == "/x/venv-222222222222/bin/python"
    assert found.python_before == "/usr/bin/python3.11"
    assert clear("it") == "/usr/bin/python3.11"
    assert sorted(own_file("it").read_text().splitlines()) == sorted(text.splitlines())
    assert read_board("it").connect == connect


@pytest.mark.parametrize("name", ["../../x", "../devices/it", "/x", "it.toml", ""])
def test_a_path_is_no_name(name: str, home: Path) -> None:
    add("it", Connect("me@it"), kind="rk3588", offline=True)
    outside = home.parents[1] / "x.toml"
    outside.write_text('[connect]\naddress = "local"\n')
    with pytest.raises(UsageError, match=r"there is no device .* of yours; there are: it"):
        remove(name)
    assert outside.exists()
    assert own_file("it").exists()
    assert not is_own(name)
