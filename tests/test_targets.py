"""Targets: what a device takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgekd.boards import read_board
from edgekd.errors import RecipeError, UnknownNameError
from edgekd.profiles import profile_folders
from edgekd.targets import Target, flavour_of

SHIPPED = [
    file for folder in profile_folders("devices")[1:] for file in sorted(folder.glob("*.toml"))
]


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_profile_is_read(file: Path) -> None:
    target = read_board(str(file)).export
    assert target.name == file.stem
    assert target.opsets[0] <= target.opset <= target.opsets[1]
    assert (target.runtime == "trt") == target.flavour.startswith("tensorrt")


def test_a_profile_by_name_and_one_there_is_not() -> None:
    assert read_board("aarch64").export.flavour == "arm64"
    with pytest.raises(UnknownNameError, match=r"no device 'aarch65'\. Did you mean aarch64\?"):
        read_board("aarch65")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[export]\nruntime = 'tvm'", r"export\.runtime is 'tvm'; expected one of ort"),
        ("[export]\nflavour = 3", "flavour is 3; expected a text"),
        ("[export]\nprecisions = ['int8']", "expected fp32 and others"),
        ("[export]\nopsets = [18]", "expected two whole numbers"),
        ("[export]\nopsets = [18, 13]", "the lowest, then the highest"),
        ("[export]\nspeed = 3", r"unknown key 'export\.speed'"),
        ("[export", "cannot read the device profile"),
        ("x = 1" + 5000 * "0", "a number of thousands of digits"),
        ("x = " + 5000 * "[", "nested too deeply"),
        ("x = '\udc80'", "it is not UTF-8 text"),
    ],
)
def test_a_profile_that_is_wrong(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "board.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RecipeError, match=says) as caught:
        read_board(str(file))
    assert re.search(r"board\.toml", str(caught.value))


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"board\.toml: No such file or directory\.$"):
        read_board(str(tmp_path / "board.toml"))


@pytest.mark.parametrize(
    ("machine", "flags", "flavour"),
    [
        ("x86_64", {"avx2"}, "avx2"),
        ("x86_64", {"avx2", "avx_vnni"}, "vnni"),
        ("x86_64", {"avx512_vnni"}, "vnni"),
        ("aarch64", {"asimddp"}, "arm64"),
        ("arm64", (), "arm64"),
    ],
)
def test_flavour_of_a_cpu(machine: str, flags: set[str], flavour: str) -> None:
    assert flavour_of(machine, flags) == flavour


def test_a_target_without_a_profile_is_a_cpu_with_onnx_runtime() -> None:
    assert Target().runtime == "ort"
    assert Target().precisions == ("fp32", "int8")
