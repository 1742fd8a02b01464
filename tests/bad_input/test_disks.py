"""Disks that are full: a sentence, a code, and nothing that looks done."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bad_input.table import Place, assert_clear, left
from tests.cli.conftest import Command


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mount something on a folder, or skip the test where that is not permitted."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, folder], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def assert_nothing_looks_finished(place: Path) -> None:
    """No artifact, and no draft of one; a training's whole files may be there."""
    whole = {"metrics.jsonl", "student.safetensors", "checkpoint.pt"}
    assert {*left(place)} <= {"out", "out/training", *(f"out/training/{name}" for name in whole)}


@pytest.mark.parametrize("kilobytes", [8, 24, 330, 700, 1010, 1300])
def test_no_space_to_train(kilobytes: int, edgekd: Command, taught: Path, tmp_path: Path) -> None:
    """The state, the student or the artifact: whatever is the first that does not fit."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs") as disk:
        place = Place(tmp_path, taught)
        answer = edgekd(*place.distill("--set", "train.checkpoint_minutes=0", "-o", disk / "out"))
        assert_clear(answer, 2, ["cannot write", "No space left on device", "--output"])
        assert_nothing_looks_finished(disk)


@pytest.mark.parametrize("kilobytes", [16, 100, 300])
def test_no_space_to_export(kilobytes: int, edgekd: Command, taught: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs") as disk:
        answer = edgekd("export", taught, "-o", disk / "out")
        assert_clear(answer, 2, ["cannot write", "No space left on device", "--output"])
        assert left(disk) == []


def test_no_space_to_report(edgekd: Command, taught: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as disk:
        answer = edgekd("report", taught, "-o", disk / "out")
        assert_clear(answer, 2, ["cannot write", "No space left on device", "--output"])
        assert not list(disk.rglob(".*"))
