"""Boards: every shipped profile, the rules that find a kind, and what a profile may say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgekd.boards import (
    METERS,
    Connect,
    Measure,
    Trap,
    defaults_of,
    own_boards,
    own_file,
    read_board,
)
from edgekd.boards.kinds import kind_of, shipped_kinds
from edgekd.devices import reach
from edgekd.errors import RecipeError, UnknownNameError
from edgekd.profiles import find_profile

KINDS = shipped_kinds()
SOURCE = r"\w/\S+(#| discussion )\d+|\.(org|ai)/|\.adoc|CVE-\d|\.cpp|^measured$|^PyPI: "
WANTED = {
    *("raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-zero-2w", "jetson-nano", "rk3588"),
    *("jetson-orin-nano", "jetson-agx-orin", "jetson-orin", "jetson-orin-jp5", "aarch64"),
    *("x86-avx2", "x86-avx512", "x86-vnni"),
}
SAID = [  # what boards say of themselves, as written down by those who have one
    ("Raspberry Pi 4 Model B Rev 1.4", "raspberry-pi-4"),
    ("Raspberry Pi 400 Rev 1.0", "raspberry-pi-4"),
    ("Raspberry Pi Compute Module 4 Rev 1.0", "raspberry-pi-4"),
    ("Raspberry Pi 5 Model B Rev 1.0", "raspberry-pi-5"),
    ("Raspberry Pi 500 Rev 1.0", "raspberry-pi-5"),
    ("Raspberry Pi Zero 2 W Rev 1.0", "raspberry-pi-zero-2w"),
    ("NVIDIA Jetson Nano Developer Kit", "jetson-nano"),
    ("NVIDIA Jetson Orin Nano Developer Kit", "jetson-orin-nano"),
    ("NVIDIA Orin Nano Developer Kit", "jetson-orin-nano"),
    ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "jetson-orin"),
    ("NVIDIA Jetson AGX Orin Developer Kit", "jetson-agx-orin"),
    ("Jetson AGX Orin", "jetson-agx-orin"),
    ("Xunlong Orange Pi 5 Plus", "rk3588"),
    ("Radxa ROCK 5B", "rk3588"),
    ("Rockchip RK3588", "rk3588"),
    ("Raspberry Pi 3 Model B Plus Rev 1.3", None),
    ("Raspberry Pi Zero W Rev 1.1", None),
    ("Orange Pi Zero2 W", None),
]


def test_the_boards_that_are_promised_are_there() -> None:
    assert set(KINDS) == WANTED


@pytest.mark.parametrize("kind", KINDS)
def test_a_shipped_profile_says_what_it_is_and_where_from(kind: str) -> None:
    board = read_board(kind)
    assert len(board.title) > 10
    assert board.match
    assert set(board.meters) <= set(METERS)
    assert board.traps
    for trap in board.traps:
        assert len(trap.text) > 40
        assert re.search(SOURCE, trap.source), trap.source
    assert not board.connect.address  # it is a kind, nobody's own
    assert not board.based_on


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_line_of_a_profile_is_its_summary(kind: str) -> None:
    first = find_profile("devices", kind).read_text("utf-8").splitlines()[0]
    assert re.fullmatch(r"# .{20,98}[.]?", first)


def test_only_what_was_measured_says_so() -> None:
    assert [kind for kind in KINDS if read_board(kind).measured] == ["x86-vnni"]


def test_half_floats_are_tried_only_where_the_hardware_computes_them() -> None:
    having = {kind for kind in KINDS if "fp16" in read_board(kind).export.precisions}
    assert having == {kind for kind in KINDS if "orin" in kind} | {"raspberry-pi-5", "rk3588"}


def test_a_jetson_nano_is_no_tensorrt_target() -> None:
    board = read_board("jetson-nano")
    assert board.export.runtime == board.runtime == "ort"
    assert any("8.2" in trap.text and "8.5" in trap.text for trap in board.traps)


# ---- which kind a device is ----


@pytest.mark.parametrize(("said", "kind"), SAID)
def test_a_board_is_found_by_what_it_says(said: str, kind: str | None) -> None:
    assert kind_of([said]) == kind
    assert kind_of([said, "Cortex-A72", "aarch64 asimddp"]) == (kind or "aarch64")


@pytest.mark.parametrize(
    ("machine", "kind"),
    [
        ("x86_64", "x86-avx2"),
        ("x86_64 avx2", "x86-avx2"),
        ("x86_64 avx2 avx512f", "x86-avx512"),
        ("x86_64 avx2 avx512f avx512_vnni", "x86-vnni"),
        ("x86_64 avx2 avx_vnni", "x86-vnni"),
        ("aarch64", "aarch64"),
        ("riscv64", None),
        ("armv7l", None),
    ],
)
def test_a_machine_is_found_by_its_instructions(machine: str, kind: str | None) -> None:
    assert kind_of(["Some Computer", "Some CPU", machine, ""]) == kind


@pytest.mark.parametrize(
    ("release", "kind"),
    [("8.5.2.2", "jetson-orin-jp5"), ("8.6.2", "jetson-orin-jp5"), ("10.3.0", "jetson-agx-orin")],
)
def test_the_release_of_tensorrt_decides_between_jetpacks(release: str, kind: str) -> None:
    soc = "NVIDIA Jetson AGX Orin Developer Kit"
    assert kind_of([soc, "Cortex-A78AE", "aarch64", f"{soc}, TensorRT {release}"]) == kind


def test_avx512_alone_is_quantised_as_avx2_is() -> None:
    assert read_board("x86-avx512").export.flavour == "avx2"
    assert read_board("x86-vnni").export.flavour == "vnni"


# ---- what applies ----


@pytest.mark.parametrize(
    ("when", "found", "applies"),
    [
        ("", {}, True),
        ("onnxruntime 1.21", {"onnxruntime": "1.21.0"}, True),
        ("onnxruntime 1.21", {"onnxruntime": "1.21"}, True),
        ("onnxruntime 1.21", {"onnxruntime": "1.210.0"}, False),
        ("onnxruntime 1.21", {"onnxruntime": "1.22.0"}, False),
        ("onnxruntime 1.21", {}, False),
        ("bits 32", {"bits": "32"}, True),
        ("bits 32", {"bits": "64"}, False),
    ],
)
def test_a_trap_applies_where_its_condition_holds(
    when: str, found: dict[str, str], applies: bool
) -> None:
    assert Trap("text", "source", when).applies(found) is applies


# ---- the user's own ----


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own_file("x").parent.mkdir(parents=True)
    return own_file("x").parent


def test_an_own_device_stands_upon_its_kind(home: Path) -> None:
    (home / "mypi.toml").write_text(
        'based_on = "rk3588"\n[connect]\naddress = "ssh://pi@pi"\n[measure]\nthreads = 2\n'
    )
    board = read_board("mypi")
    assert board.connect == Connect("ssh://pi@pi")
    assert board.export.flavour == "arm64"
    assert board.export.name == "mypi"
    assert board.traps == read_board("rk3588").traps
    assert own_boards() == ["mypi"]
    assert defaults_of("mypi") == Measure("ort", threads=2, affinity="4-7")
    assert defaults_of("rk3588").threads == 4
    assert defaults_of("jetson-orin").runtime == "trt"
    assert defaults_of("ssh://pi@pi") == Measure()


@pytest.mark.parametrize("text", ["garbage = =", 'based_on = "nothing"', 'based_on = "mypi"'])
def test_a_broken_file_does_not_hide_what_was_asked_for(text: str, home: Path) -> None:
    (home / "mypi.toml").write_text('based_on = "rk3588"\n[connect]\naddress = "ssh://pi@pi"\n')
    (home / "bad.toml").write_text(text + "\n")
    with pytest.raises(UnknownNameError, match=r"no device 'nosuch'.* There are: mypi, local"):
        reach("nosuch")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[connect]\npython = "py\\u0000x"',
            r"python is 'py\\x00x'; expected a text without zero bytes",
        ),
        (
            '[connect]\nfolder = "a\\u0000b"',
            r"folder is 'a\\x00b'; expected a text without zero bytes",
        ),
        ('meters = ["watt"]', r"meters has 'watt'; expected of ina3221"),
        ("match = ['(']", r"match has '\(', which cannot be read"),
        ("[[traps]]\ntext = 'a'", "every trap needs a text and a source"),
        ("[[traps]]\ntext = ''\nsource = 'b'", "every trap needs a text and a source"),
        (
            "[[traps]]\ntext = 'a'\nsource = 'b'\nwhen = 'onnxruntime'",
            "expected a name and how its value begins",
        ),
        ("[measure]\naffinity = 'all'", "CPUs such as 4-7, big or little"),
        ('based_on = "mine"', "is based on .* which is based on another"),
        ('based_on = "nothing"', "there is no device 'nothing'"),
        ("speed = 3", "unknown key 'speed'"),
    ],
)
def test_a_profile_that_is_wrong_is_refused(text: str, says: str, home: Path) -> None:
    (home / "mine.toml").write_text('based_on = "aarch64"\n')
    (home / "bad.toml").write_text(text + "\n")
    with pytest.raises((RecipeError, UnknownNameError), match=says):
        read_board("bad")
