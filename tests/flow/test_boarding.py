"""The user's own devices: what is written down, what is refused, and how a kind is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.boards import Connect, own_boards, read_board
from edgekd.errors import DeviceError, UnknownNameError, UsageError
from edgekd.flow import boarding, examining
from edgekd.flow.boarding import add, names_of, split
from tests.flow.surveys import package, survey


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own devices."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config/edgekd/devices"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the agent says, in place of asking one; a test changes it."""
    said = survey()
    for module in (boarding, examining):
        monkeypatch.setattr(module, "look_at", lambda device: said)
    return said


def test_a_device_is_asked_what_it_is_and_written_down(seen: dict[str, Any], home: Path) -> None:
    added = add("mypi", Connect("ssh://pi@pi/usr/bin/python3.11", folder="~/edge"))
    assert (added.file, added.board.based_on) == (home / "mypi.toml", "raspberry-pi-4")
    assert added.board.connect == Connect("ssh://pi@pi", "/usr/bin/python3.11", "~/edge")
    assert own_boards() == ["mypi"]
    assert added.file.read_text().startswith("# Raspberry Pi 4")  # as edgekd list device shows it


@pytest.mark.parametrize("address", ["ssh://pi@board-python3", "pi@python3"])
def test_a_host_that_is_called_like_a_python(address: str) -> None:
    assert split(Connect(address)) == Connect(address)


def test_the_kind_can_be_given_instead(home: Path) -> None:
    added = add("nano", Connect("me@nano"), kind="jetson-nano", offline=True)
    assert added.survey is None
    assert added.board.connect.python == "python3.8"  # the kind's own, as its python3 is too old
    assert "python" not in (home / "nano.toml").read_text()
    assert add("any", Connect("local"), kind="none", offline=True).board.based_on == ""


@pytest.mark.parametrize(
    ("device", "more", "kind"),
    [
        ({"soc": None, "cpu_flags": ["asimddp"]}, {}, "aarch64"),
        ({"soc": "Virtual", "machine": "x86_64", "cpu_flags": ["avx2"]}, {}, "x86-avx2"),
        ({"soc": None, "machine": "riscv64"}, {}, ""),
        (
            {"soc": "NVIDIA Orin Nano Developer Kit"},
            {"packages": {"tensorrt": package("8.5.2.2")}},
            "jetson-orin-jp5",
        ),
        (
            {"soc": "NVIDIA Orin Nano Developer Kit"},
            {"packages": {"tensorrt": package("10.3.0")}},
            "jetson-orin-nano",
        ),
    ],
)
def test_a_device_nobody_described_gets_the_generic_kind(
    device: dict[str, Any], more: dict[str, Any], kind: str, seen: dict[str, Any]
) -> None:
    seen.update(survey(device=device, **more))
    assert add("it", Connect("me@it")).board.based_on == kind


@pytest.mark.parametrize(
    "name", ["", ".", "../x", "a/b", "a b", "-x", "a.toml", "ä", "local", "rk3588", "x\n"]
)
def test_a_name_that_cannot_be_a_file_or_is_taken_is_refused(name: str, home: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be called|is this machine|is a kind of board"):
        add(name, Connect("me@it"), kind="none", offline=True)
    assert not home.exists()


def test_a_device_is_overwritten_only_where_that_is_asked_for(seen: dict[str, Any]) -> None:
    add("it", Connect("me@it"))
    with pytest.raises(UsageError, match=r"there is a device 'it' already.*--replace"):
        add("it", Connect("me@other"))
    assert read_board("it").connect.address == "me@it"
    add("it", Connect("me@other"), replace=True)
    assert read_board("it").connect.address == "me@other"


@pytest.mark.parametrize(
    ("address", "kind", "says"),
    [
        ("ssh://", "none", "cannot read the device"),
        ("nowhere", "none", "there is no device 'nowhere'"),
        ("me@it", "raspberry-pi-6", r"Did you mean raspberry-pi-"),
        ("me@it", "", "nothing says which kind of board"),
        ("me@it", "other", "other is a device of yours"),
    ],
)
def test_what_cannot_be_added_leaves_nothing(
    address: str, kind: str, says: str, home: Path
) -> None:
    add("other", Connect("me@other"), kind="rk3588", offline=True)
    with pytest.raises((UsageError, UnknownNameError), match=says):
        add("it", Connect(address), kind=kind, offline=True)
    assert [file.name for file in home.iterdir()] == ["other.toml"]


def test_a_device_that_cannot_be_reached_is_not_added(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(device: object) -> None:
        raise DeviceError("it is off")

    monkeypatch.setattr(boarding, "look_at", refuse)
    with pytest.raises(DeviceError, match="it is off"):
        add("it", Connect("me@it"))
    assert not home.exists()


def test_odd_texts_come_back_as_they_were(home: Path) -> None:
    odd = '/a "b"\\c ä 😀 \x01\x7f/python'
    add("it", Connect("me@it", python=odd), kind="none", offline=True)
    assert read_board("it").connect.python == odd


def test_what_a_board_says_of_itself() -> None:
    said = survey(packages={"tensorrt": package("8.5")}, device={"cpu_flags": ["asimddp"]})
    soc = "Raspberry Pi 4 Model B Rev 1.4"
    assert names_of(said) == [soc, "Cortex-A72", "aarch64 asimddp", f"{soc}, TensorRT 8.5"]


@pytest.mark.parametrize("connect", [Connect("me@it", "\udcff"), Connect("me@it", "", "\udcff")])
def test_bytes_that_are_no_text_are_refused_before_anybody_is_asked(
    connect: Connect, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boarding, "look_at", lambda device: pytest.fail("it was asked"))
    with pytest.raises(UsageError, match="is no text in UTF-8"):
        add("it", connect)
    assert not home.exists()
