"""The benchmark of opening a deployed model still runs; what it times is not looked at here."""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "tools" / "bench"
RATIO = r"[\d.]+x \[[\d.]+, [\d.]+\]"


def test_opening_a_deployed_model_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # which it sets, for good
    monkeypatch.setattr(sys, "argv", ["cold_start.py", "--quick", "--rounds", "1"])
    before = os.environ["XDG_CACHE_HOME"]
    assert not runpy.run_path(str(BENCH / "cold_start.py"), run_name="bench")["main"]()
    assert os.environ["XDG_CACHE_HOME"] == before
    printed = capsys.readouterr().out
    assert printed.startswith("edgekd "), "versions come first"
    rows = re.findall(rf"^    (\w+) +{RATIO}  {RATIO}$", printed, re.MULTILINE)
    assert rows == ["kept", "null", "hashed", "first", "kept", "null"]
    assert "answers the same to the bit" in printed
