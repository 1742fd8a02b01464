"""The screen: bars on a terminal, lines in a log, nothing on standard output."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from edgekd.cli import _screen
from edgekd.cli._screen import Screen


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 80 columns that remembers."""
    heard = io.StringIO()

    def console(file: object, *, stderr: bool) -> Console:
        assert stderr
        return Console(file=heard, force_terminal=True, width=80, height=30, legacy_windows=False)

    monkeypatch.setattr(_screen, "Console", console)
    return heard


def last_frame(heard: io.StringIO) -> list[str]:
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", heard.getvalue())
    lines = [line.rstrip() for line in plain.replace("\r", "\n").splitlines()]
    return [line for line in lines if line]


def test_one_bar_a_stage(terminal: io.StringIO) -> None:
    with Screen() as screen:
        for step in range(0, 101, 10):
            screen.progress("distill", step, 100, "loss 0.255  1,113 images/s")
        screen.progress("distill", 100, 100, "epoch 12: validation 99.5%")
        screen.say("student resnet8: [98.1%] on 539 test images")
    lines = last_frame(terminal)
    assert "  student resnet8: [98.1%] on 539 test images" in lines
    (bar,) = {line for line in lines[-1:] if line.startswith("distill")}
    assert "100/100" in bar
    assert bar.endswith("epoch 12: validation 99.5%")
    assert len(bar) <= 80


def test_a_stage_that_begins_again_gets_another_bar(terminal: io.StringIO) -> None:
    with Screen() as screen:
        for name in ("student-onnx", "teacher-onnx"):
            screen.progress("export", 0, 1, name)
            screen.progress("export", 1, 1, name)
    ends = [line.split()[-1] for line in last_frame(terminal)[-2:]]
    assert ends == ["student-onnx", "teacher-onnx"]


def test_a_log_has_a_line_when_a_stage_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Screen() as screen:
        for step in range(1, 8):
            now[0] += 10.0
            screen.progress("teach", step, 7, f"loss {step}")
        screen.say("done [really]")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "teach: 3 of 7  loss 3",
        "teach: 6 of 7  loss 6",
        "teach: done  loss 7",
        "  done [really]",
    ]
