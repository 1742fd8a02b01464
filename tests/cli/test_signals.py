"""Signals that ask to end: what is running is put away, and the shell is told which it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from runpy import run_path

import click
import pytest

from edgekd.cli import _signals
from edgekd.cli._signals import Asked, number_of
from edgekd.trainer.signals import Ears

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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_libraries_are_not_interrupted_while_a_verb_imports_them(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Some abort, and numpy takes it for a fault of its own, as this one does."""
    ended = _stopped_in_numpy(tmp_path, number)
    assert (ended.returncode, ended.stdout) == (128 + number, "")
    assert ended.stderr == "\nedgekd: stopped.\n"


def test_who_cannot_be_told_any_more_is_obeyed_all_the_same(tmp_path: Path) -> None:
    assert _stopped_in_numpy(tmp_path, signal.SIGHUP, "os.close(2)").returncode == 129


def _stopped_in_numpy(
    tmp_path: Path, number: signal.Signals, before: str = ""
) -> subprocess.CompletedProcess[str]:
    program = (
        f"import os\n{before}\ntry:\n    os.kill(os.getpid(), {int(number)})\n"
        "except BaseException:\n    raise ImportError('initialization failed')\n"
    )
    (tmp_path / "numpy.py").write_text(program)
    command = [sys.executable, "-m", "edgekd", "export", "x", "--output", str(tmp_path / "made")]
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


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
    heard: list[BaseException] = []
    with Asked().listening():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as stopped:
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
            heard.append(stopped)
    assert number_of(heard[0]) == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_insists_is_not_made_to_wait(number: signal.Signals) -> None:
    child = os.fork()
    if child == 0:
        with Asked().listening():
            with suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
            _signals.INSISTING_S = 0.0
            os.kill(os.getpid(), number)
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + number


def test_a_thread_that_hangs_at_the_end_is_not_waited_for_twice() -> None:
    program = (
        "import signal, threading, time\nimport edgekd.cli\nfrom edgekd.__main__ import main\n"
        "def hang():\n"
        "    while signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:\n        time.sleep(0.01)\n"
        "    print('ended', flush=True)\n    time.sleep(100)\n"
        "edgekd.cli.main = lambda: threading.Thread(target=hang).start()\nmain()\n"
    )
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ended\n"
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 143


def test_a_signal_where_nothing_can_be_raised_is_heard_a_moment_later(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """As it comes while something is collected; Python would print a traceback and go on."""

    class Collected:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGHUP)

    found: list[BaseException] = []
    with Asked().listening():
        try:
            Collected()
            time.sleep(10)
        except KeyboardInterrupt as stopped:
            found.append(stopped)
    assert number_of(found[0]) == signal.SIGHUP
    assert capfd.readouterr().err == ""


def test_the_code_is_what_was_decided_also_where_a_text_was_run(tmp_path: Path) -> None:
    """Python would end by SIGINT, whatever the signal was and whatever was done about it."""
    program = (
        "import os, signal, sys\nfrom edgekd.cli._signals import Asked, settle\n"
        "try:\n    with Asked().listening():\n"
        "        exec('os.kill(os.getpid(), signal.SIGTERM)')\n"
        "except KeyboardInterrupt:\n    settle() if sys.argv[1:] else None\nsys.exit(143)\n"
    )
    (tmp_path / "program.py").write_text(program)
    root = str(Path(__file__).parents[2])
    command, env = [sys.executable, "-m", "program"], {**os.environ, "PYTHONPATH": root}
    ends = [subprocess.run([*command, *more], cwd=tmp_path, env=env) for more in ([], ["settled"])]
    assert [ended.returncode for ended in ends] == [-signal.SIGINT, 143]


def test_the_signal_behind_what_is_raised_around_it() -> None:
    aborted = click.Abort()
    aborted.__cause__ = KeyboardInterrupt(signal.SIGTERM)
    assert number_of(aborted) == signal.SIGTERM
    assert number_of(KeyboardInterrupt()) == number_of(click.Abort()) == signal.SIGINT


def test_ears_leave_alone_what_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ears = Ears()
    try:
        with ears.listening():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not ears.heard


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
