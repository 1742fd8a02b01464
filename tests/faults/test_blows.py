"""Blows at random moments: the same command goes on, and ends as if nothing had happened.

A few of them here; ``tools/faults`` deals out as many as one likes.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults import bench
from tests.faults.bench import Tally, differing, hammer, table, untidy
from tests.faults.commands import COMMANDS, WITH_CHILDREN, homes, laid_out, undisturbed
from tests.faults.doomed import ROOT, Moment, Workshop
from tests.faults.endings import ending

FEW = {"kill": 2, "term": 1, "int": 1}
MANY = {"kill": 50, "term": 20, "int": 20}
CHILD = {"child": 10}
SAVING = Moment("renames student/training/checkpoint.pt", 2)


def assert_nothing_lost(tally: Tally) -> None:
    print(table([tally]))
    assert tally.lost == []
    assert tally.finished == tally.equal > 0


def test_a_few(shop: Workshop, source: Path, tmp_path: Path) -> None:
    assert_nothing_lost(hammer(shop, "teach", source, tmp_path / "place", FEW))


def test_a_blow_that_meets_nobody_is_told(
    shop: Workshop, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that distill starts can be hit: it starts nothing."""
    monkeypatch.setattr(bench, "MOST", 1)
    tally = hammer(shop, "distill", source, tmp_path / "place", {"child": 1})
    assert tally.lost == ["1 of child never met it at work"]


def test_stopped_then_killed_then_finished(shop: Workshop, source: Path, tmp_path: Path) -> None:
    command = COMMANDS["distill"]
    words = (*command.words, "--json")
    undisturbed(shop, command, source, tmp_path / "whole")
    folder = laid_out(command, source, tmp_path / "cut")
    env = homes(folder)
    stopped = shop.run(words, folder, replace(SAVING, number=signal.SIGINT), env)
    assert (stopped.code, stopped.out) == (130, ""), stopped.err
    assert "The state is saved: give the same command again to go on." in stopped.err
    assert "Traceback" not in stopped.err
    assert shop.run(words, folder, SAVING, env).killed
    assert not (folder / "student/manifest.json").exists()
    finished = shop.run(words, folder, env=env)
    assert finished.code == 0, finished.err
    assert json.loads(finished.out)["path"] == "student"
    assert differing(folder, ending(tmp_path / "whole")) + untidy(folder) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("verb", COMMANDS)
def test_many(verb: str, shop: Workshop, source: Path, tmp_path: Path) -> None:
    wanted = MANY | (CHILD if verb in WITH_CHILDREN else {})
    assert_nothing_lost(hammer(shop, verb, source, tmp_path / "place", wanted))


@pytest.mark.slow
def test_the_tool(tmp_path: Path) -> None:
    words = ["teach", "--quick", "--keep", str(tmp_path / "kept")]
    tool = [sys.executable, str(ROOT / "tools" / "faults")]
    done = subprocess.run([*tool, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^teach .* 0 +0$", done.stdout, re.MULTILINE), done.stdout
    assert (tmp_path / "kept" / "teach" / "whole" / "taught" / "manifest.json").is_file()
    refused = subprocess.run([*tool, "dance"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "there is no dance" in refused.stderr
