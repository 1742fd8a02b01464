"""Signals that ask to end: what is running is put away, and the shell is told which it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from runpy import run_path

import pytest

from edgekd.cli._signals import Asked

TINY = run_path(str(Path(__file__).parents[1] / "agent" / "tiny_models.py"))
classifier: Callable[..., Path] = TINY["classifier"]
COMMAND = [sys.executable, "-m", "edgekd", "profile"]
SLOW = ["--max-seconds", "100", "--sustained", "1h", "--threads", "1"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_measurement_that_is_asked_to_end(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    model = classifier(tmp_path / "a.onnx")
    process = subprocess.Popen(
        [*COMMAND, str(model), *SLOW],
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        until_it_runs(temporary, process)
        process.send_signal(number)
        assert process.wait(timeout=60) == code
        assert process.stderr is not None
        assert process.stderr.read().strip().endswith("edgekd: stopped.")
    assert list(temporary.iterdir()) == []
    assert workers(temporary) == []


def until_it_runs(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until the agent's worker says that it is there."""
    while not list(folder.glob(".edgekd-draft.*/run-*/worker.json")):
        assert process.poll() is None
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue


def workers(folder: Path) -> list[str]:
    """Programs that still run in a folder, which is gone by now."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        try:
            where = str(place.readlink())
        except OSError:  # it ended meanwhile, or is another user's
            continue
        found += [where] if where.startswith(str(folder)) else []
    return found


def test_a_second_signal_does_not_cut_short_what_is_put_away() -> None:
    asked, put_away = Asked(), False
    with asked.listening():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            put_away = True
    assert put_away
    assert asked.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Asked().listening():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_forked_worker_ends_as_it_would() -> None:
    with Asked().listening():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
