"""Too little memory, for a command or for what it starts: a sentence, and the same one goes on."""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.faults.commands import BRIEF, COMMANDS, OTHERS, homes, laid_out, undisturbed
from tests.faults.doomed import Ended, Workshop
from tests.faults.endings import ending, left_over

ALL = {**COMMANDS, **OTHERS}
SAID = re.compile(r"edgekd: .*(?:memory|Memory)", re.DOTALL)
STEPS = (0, 12, 30, 60, 90, 120, 150, 200, 300, 500)
"""MiB more than a process of Python has that has imported all of edgekd."""
FRESH = (40, 120, 250, 400, 700, 1100, 1600, 2100, 2600, 3200, 8000)
"""MiB in all, of a process that imports what it needs itself."""


def assert_said(ended: Ended, folder: Path) -> None:
    """A sentence of one screen, and nothing half-made."""
    assert ended.code == 1, ended.err
    assert "Traceback" not in ended.err
    last = ended.err[ended.err.rindex("edgekd: ") :]
    assert SAID.match(last), ended.err
    assert len(last) < 12 * 80
    assert [path for path in left_over(folder) if "checkpoint" not in path] == []
    assert list((Path(homes(folder)["TMPDIR"])).rglob("*draft*")) == []


def assert_same(whole: Path, cut: Path) -> None:
    found, expected = ending(cut), ending(whole)
    assert found.keys() == expected.keys()
    for name, content in expected.items():
        assert found[name] == content, name


def test_a_training_without_memory_goes_on_with_it(
    shop: Workshop, source: Path, tmp_path: Path
) -> None:
    command = COMMANDS["distill"]
    undisturbed(shop, command, source, tmp_path / "whole")
    cut = laid_out(command, source, tmp_path / "cut")
    for more in (0, 20):  # 60 are enough now and then
        told = {"more_mib": more}
        ended = shop.run(command.words, cut, None, homes(cut), first=BOUND, told=told)
        assert_said(ended, cut)
        assert "memory ran out" in ended.err
        assert "Lower --batch-size, or keep fewer images in memory" in ended.err
    ended = shop.run(command.words, cut, None, homes(cut))
    assert ended.code == 0, ended.err
    assert_same(tmp_path / "whole", cut)


BOUND, WHOLE = "tests.faults.memory:bound", "tests.faults.memory:whole"


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_with_ever_more_memory(name: str, shop: Workshop, source: Path, tmp_path: Path) -> None:
    """In one folder, from none to enough; it prints at which it was refused, and by what."""
    command = ALL[name]
    undisturbed(shop, command, source, tmp_path / "whole")
    cut, refused = laid_out(command, source, tmp_path / "cut"), 0
    for more in STEPS:
        told = {"more_mib": more, "briefly": command.first == BRIEF}
        ended = shop.run(command.words, cut, None, homes(cut), first=BOUND, told=told)
        if ended.code in command.codes and "Lower" not in ended.err:
            break
        assert_said(ended, cut)
        refused += 1
    else:
        ended = shop.run(command.words, cut, None, homes(cut), first=command.first)
    assert ended.code in command.codes, ended.err
    assert_same(tmp_path / "whole", cut)
    print(f"{name}: {refused} times without memory, then finished and equal")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["distill", "profile"])
def test_a_whole_process_with_little_memory(
    name: str, shop: Workshop, source: Path, tmp_path: Path
) -> None:
    """Python itself and what it imports, too: no half of a result, whatever a library does then."""
    command, ends = COMMANDS[name], []
    for most in FRESH:
        cut = laid_out(command, source, tmp_path / str(most))
        told = {"mib": most}
        ended = shop.run(command.words, cut, None, homes(cut), first=WHOLE, told=told, fresh=True)
        ends.append((most, ended.code))
        assert ended.code in (0, 1, 127, -signal.SIGABRT, -signal.SIGSEGV), ended.err
        if ended.code == 1 and "edgekd: " in ended.err:
            assert_said(ended, cut)
        shutil.rmtree(cut)
    assert ends[-1][1] == 0
    print(f"{name}: {ends}")
