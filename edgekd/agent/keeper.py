"""A run that outlives its link: a worker apart from whoever listens to it.

``keep JOB LINES`` starts the worker of a job unless it was started before, then prints its events
from line LINES on as they come, until the last. Where the link is cut, the worker goes on, and the
same command over a new link goes on where the old one ended. ``stop JOB`` ends it.

A run's folder lies beside its job: ``run-x-job.json`` -> ``run-x/``. The worker holds a lock on
``events.jsonl`` as long as it lives, however it ends; ``worker.json`` says where it was started,
and its time says when somebody listened last.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Dict

from edgekd.agent import facts, locking, turns
from edgekd.agent.failures import AgentError, without_traces
from edgekd.agent.worker import FINAL, NO_ROOM, Event, Log, UnsaidError, failed, work

EVENTS, WORKER, SAID = "events.jsonl", "worker.json", "said"
BOOT = Path("/proc/sys/kernel/random/boot_id")
SHORTEST_S, LONGEST_S = 0.02, 0.25  # between two looks at the events; few, as looking costs CPU
STARTING_S = 10.0
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
FULL = 2**20  # bytes; with less, a disk is full
ELSEWHERE = (
    "Make room there, or name a folder in another place: edgekd device add NAME ADDRESS "
    "--folder /other/place."
)
LAST = tuple(f'{{"event": "{name}"'.encode() for name in FINAL)


def keep(path: Path, lines: int) -> None:
    """Start a job unless it runs or ran, and print its events from a line on.

    It ends after the last event, or when whoever listens closes the link.

    Args:
        path: the job's file, ``NAME-job.json``.
        lines: how many events whoever listens has already.
    """
    run = _folder(path)
    with suppress(BrokenPipeError):
        _say({"event": "attached"})
        try:
            _begin(path, run)
            _attach(run, lines)
        except AgentError as error:
            _say(failed(error))


def stop(path: Path) -> None:
    """End the worker of a job and all it started, if there is one."""
    run = _folder(path)
    try:
        worker = _worker(run)
        pid = int(worker["pid"])
        with (run / EVENTS).open("rb") as file:
            if _alive(file) and worker["boot"] == _boot() and os.getsid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
                locking.release(locking.place(run.parent), pid)
    except (OSError, KeyError, ValueError):
        pass  # it never began, or ended this moment


def check_idle(folder: Path) -> None:
    """See that no run lives in a device's folder, not even one that waits for its turn.

    Raises:
        AgentError: of kind ``busy``: one does.
    """
    for events in folder.glob(f"run-*/{EVENTS}"):
        with events.open("rb") as file:
            if _alive(file):
                raise AgentError("busy", turns.sentence({}))


def _folder(path: Path) -> Path:
    return path.with_name(path.name.replace("-job.json", ""))


def _begin(path: Path, run: Path) -> None:
    if not path.is_file():
        raise AgentError("gone", "the run's files are not on the device any more. Run it again.")
    try:
        run.mkdir()
    except FileExistsError:
        return
    except OSError as error:
        text = f"{run.parent.resolve()} cannot be written to: {error.strerror}. {ELSEWHERE}"
        raise AgentError("disk", text) from error
    _start(path, run)


def _start(path: Path, run: Path) -> None:
    """Start the worker, and return once it holds its lock.

    It is a fork, which no thread is there to disturb yet: importing everything once more would
    take a second on a small board. It is orphaned, so that it leaves no zombie, and leads a session
    and a group of its own, which no hang-up of this one reaches.
    """
    heard, ready = os.pipe()
    child = os.fork()
    if child:
        os.close(ready)
        os.waitpid(child, 0)
        os.read(heard, 1)  # the end, when the worker closes its side or dies
        os.close(heard)
        return
    if os.fork():
        os._exit(0)
    os.setsid()
    code = 1
    try:
        log = _settle(run)
        os.close(ready)
        work(path, log, run / WORKER)
        code = 0
    except UnsaidError:
        pass  # it is told in `said` already
    except BaseException:  # nothing prints it after this
        with suppress(OSError):
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(code)


def _settle(run: Path) -> Log:
    """The worker's side: its files in place of the link's streams."""
    os.umask(0o077)
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    said, nothing = os.open(run / SAID, appending, 0o600), os.open(os.devnull, os.O_RDONLY)
    for source, stream in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(source, stream)
    events = os.open(run / EVENTS, appending, 0o600)
    fcntl.flock(events, fcntl.LOCK_EX)
    draft = run / "draft"
    draft.write_text(json.dumps({"pid": os.getpid(), "boot": _boot()}), "utf-8")
    draft.replace(run / WORKER)
    return Log(events)


def _attach(run: Path, lines: int) -> None:
    until = time.monotonic() + STARTING_S
    while not (run / WORKER).exists():  # another start of the same run may be at it
        if time.monotonic() > until:
            raise _why(run)
        time.sleep(SHORTEST_S)
    with (run / EVENTS).open("rb") as file:
        for _ in range(lines):
            file.readline()
        _follow(file, run)


def _follow(file: BinaryIO, run: Path) -> None:
    rest, pause = b"", SHORTEST_S
    while True:
        alive = _alive(file)  # asked first: what it said before it died is then all there
        whole, newline, rest = (rest + file.read()).rpartition(b"\n")
        if newline:
            _print(whole + newline)
            pause = SHORTEST_S
            if whole[whole.rfind(b"\n") + 1 :].startswith(LAST):
                return
        elif not alive:
            raise _why(run)
        if not _attended(run, pause):
            return
        pause = min(LONGEST_S, 1.5 * pause)


def _attended(run: Path, pause: float) -> bool:
    """Wait a moment; False where whoever listens closed the link. A byte is a sign of life."""
    if not select.select([0], [], [], pause)[0]:
        return True
    if not os.read(0, 4096):
        return False
    if (run / WORKER).exists():
        os.utime(run / WORKER)
    _say({"event": "beat"})
    return True


def _alive(file: BinaryIO) -> bool:
    """Whether the worker lives: it holds its lock until it ends, however that may be."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def _worker(run: Path) -> Dict[str, str]:
    found: Dict[str, str] = json.loads((run / WORKER).read_text("utf-8"))
    return found


def _boot() -> str:
    """What is another one after each start of the system; empty where none is told."""
    try:
        return BOOT.read_text("ascii").strip()
    except OSError:
        return ""


def _why(run: Path) -> AgentError:
    """Why a worker is gone that did not say its last word."""
    try:
        before = _worker(run)["boot"]
    except (OSError, ValueError, KeyError):
        before = None
    space = os.statvfs(run if run.exists() else ".")
    if before is not None and before != _boot():
        text = "the device was restarted in the middle of the run. See that its power supply is "
        return AgentError(
            "restart", text + "strong enough and that it is not too hot; run it again."
        )
    said, refused = _said(run), _refused(run)
    if refused:
        text = f"the disk of the device cannot be written to in {run.resolve()}: {refused}"
        return AgentError("disk", f"{text}. {ELSEWHERE}{said}")
    if space.f_bavail * space.f_frsize < FULL or NO_ROOM in said:
        text = f"the disk of the device is full: there is no room for events in {run.resolve()}"
        return AgentError("disk", f"{text}. {ELSEWHERE}{said}")
    free = facts.moment()["free_bytes"]
    memory = "" if free is None else f"; {free / 2**20:.0f} MiB are free now"
    return AgentError(
        "killed",
        "the agent was killed in the middle of the run, most likely because the device ran out of "
        f"memory{memory}. Use a smaller batch or model, or stop other programs. If a link was cut "
        "before, see that the system lets programs outlive a login: loginctl enable-linger."
        f"{said}",
    )


def _refused(run: Path) -> str:
    """Why nothing can be written beside a run's events; empty where something can."""
    try:
        with tempfile.TemporaryFile(dir=str(run)) as file:
            file.write(b"\n")
    except FileNotFoundError:  # the run's files are gone
        return ""
    except OSError as error:
        return "" if error.errno in FULL_DISK else str(error.strerror)
    return ""


def _said(run: Path) -> str:
    try:
        text = without_traces((run / SAID).read_text("utf-8", errors="replace"))
    except OSError:
        return ""
    return f" It said: {text[-300:]}" if text else ""


def _say(event: Event) -> None:
    _print((json.dumps(event) + "\n").encode("utf-8"))


def _print(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
