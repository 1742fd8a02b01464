"""Wheels for another machine: which ones fit, and what is asked of pip."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.boards import read_board
from edgekd.errors import DeviceError, EdgeKDError, UsageError
from edgekd.flow.examining import Examined
from edgekd.flow.furnishing import equip
from edgekd.flow.wheels import There, download, platforms, requirements
from tests.flow.surveys import survey

PI = There("3.11", "aarch64", 64, "2.36")


def test_platforms_of_a_device() -> None:
    tags = platforms(PI)
    assert tags[0] == "manylinux_2_36_aarch64"
    assert {"manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= {*tags}
    assert "manylinux_2_28_x86_64" not in platforms(There("3.8", "x86_64", 64, "2.27"))
    assert There.of(survey(python="3.9.18", glibc=None)) == There("3.9", "aarch64", 64, "")


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (There("3.11", "armv7l", 32, "2.36"), r"32 bits.*#24511.*Raspberry Pi OS \(64-bit\)"),
        (There("3.11", "aarch64", 32, "2.36"), "32 bits"),  # on a 64-bit kernel
        (There("3.11", "aarch64", 64, ""), "not glibc"),
        (There("3.11", "riscv64", 64, "2.36"), "no wheels of ONNX Runtime for riscv64"),
    ],
)
def test_a_device_nobody_makes_wheels_for(there: There, says: str, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=says):
        download(there, tmp_path)


def test_what_is_asked_of_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(argv: list[str], **more: object) -> subprocess.CompletedProcess[str]:
        asked.append(argv)
        (tmp_path / "numpy-1-any.whl").touch()
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert [file.name for file in download(PI, tmp_path)] == ["numpy-1-any.whl"]
    (argv,) = asked
    assert argv[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--only-binary=:all:", "--no-deps", "--python-version=3.11"} <= {*argv}
    assert argv[-3:] == ["numpy", "onnxruntime!=1.21.*", "pillow"]
    assert requirements(There("3.8", "aarch64", 64, "2.31"), tensorrt=True)[0] == "numpy<1.24"


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("/usr/bin/python: No module named pip", r"has no pip.*-m ensurepip"),
        ("ERROR: No matching distribution found", r"Python 3\.11 on aarch64.*No matching"),
    ],
)
def test_pip_that_fails_is_a_sentence(
    said: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", said)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(UsageError, match=says):
        download(PI, tmp_path)


def test_this_machine_gets_no_environment() -> None:
    with pytest.raises(EdgeKDError, match="edgekd's own Python, and needs no environment"):
        equip(Examined("local", read_board("x86-avx2"), [], survey()))
