"""The fuzzer runs, knows the readers there are, and says what it lacks."""

from __future__ import annotations

import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.properties.readers import READERS

TOOL = Path(__file__).parents[2] / "tools" / "fuzz"


def test_it_knows_every_reader() -> None:
    assert set(runpy.run_path(str(TOOL), run_name="fuzz")["NAMES"]) == set(READERS)


def test_without_atheris_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    monkeypatch.setattr(sys, "argv", ["fuzz", "budget"])
    assert runpy.run_path(str(TOOL), run_name="fuzz")["main"]() == 2
    assert "pip install atheris" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="no atheris here")
def test_it_looks_and_finds_nothing_at_once(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    argv = [sys.executable, str(TOOL), "budget", "--runs", "300", "--found", str(tmp_path)]
    argv += ["--scratch", str(scratch)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "stat::number_of_executed_units: 300" in done.stderr
    assert not list((tmp_path / "budget").iterdir())
    assert not list(scratch.iterdir())
