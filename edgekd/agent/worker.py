"""The worker: does a job apart from whoever asked for it, and says all it has to say to a file.

It ends by itself when its time is up, and when nobody attended it for as long as the job allows:
its children, which may hang in a runtime, end with it, as all are one group of processes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from edgekd.agent import locking
from edgekd.agent.failures import AgentError, explain_import, explain_text
from edgekd.agent.tasks import AGENT, run_job
from edgekd.agent.turns import take_turn

Event = Dict[str, Any]
FINAL = ("result", "error")
ALONE_S = 300.0
"""How long a worker goes on that nobody attends, where the job does not say."""
LOOK_S = 1.0
NO_ROOM = "an event could not be written"


class UnsaidError(Exception):
    """An event could not be written: what is wrong can be told by whoever attaches, only."""


class Log:
    """Events in a file, a line each, until the last: a result or an error.

    Args:
        file: a file descriptor, open for appending.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.over = False
        self.doing = "it began"

    def emit(self, event: Event) -> None:
        """Write an event at once, whole or not at all; after the last one, nothing.

        Raises:
            UnsaidError: there is no room for it.
        """
        line = (json.dumps(event, allow_nan=False) + "\n").encode("utf-8")
        with self._lock:
            if self.over:
                return
            self.over = event["event"] in FINAL
            self._note(event)
            before = os.fstat(self._file).st_size
            try:
                while line:
                    line = line[os.write(self._file, line) :]
            except OSError as error:
                with suppress(OSError):  # the same disk
                    os.ftruncate(self._file, before)
                with suppress(OSError):
                    sys.stderr.write(f"{NO_ROOM}: {error.strerror}\n")
                    sys.stderr.flush()
                raise UnsaidError from error

    def _note(self, event: Event) -> None:
        if event["event"] == "progress":
            words = (event.get("step"), event.get("model"))
            self.doing = " ".join(str(word) for word in words if word is not None)


def read_job(path: Path) -> Event:
    """A job of edgekd's.

    Raises:
        AgentError: the file is none, or one for another agent.
    """
    try:
        job: Event = json.loads(path.read_text("utf-8"))
        found = job.get("agent")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise AgentError("job", f"expected a job of edgekd's: agent job.json ({error})") from error
    if found != AGENT:
        words = f"{path} is for agent {found}, this is {AGENT}"
        raise AgentError("job", f"expected a job of edgekd's: agent job.json ({words}.)")
    return job


def last_word(work: Callable[[], Event]) -> Event:
    """The last event of some work: its result, or why there is none."""
    try:
        return {"event": "result", **work()}
    except AgentError as error:
        return failed(error)
    except ImportError as error:
        return failed(explain_import(str(error)) or AgentError("module", str(error)))


def failed(error: AgentError) -> Event:
    """The last event of what went wrong."""
    return {"event": "error", "kind": error.kind, "message": str(error)}


def work(path: Path, log: Log, attended: Path) -> None:
    """Do a job to its last line.

    Args:
        path: the job's file.
        log: where its events go.
        attended: the file whose time whoever listens keeps new.
    """
    watch = _Watch(log, attended)
    try:
        log.emit(last_word(lambda: _do(path, log, watch)))
    except UnsaidError:
        raise
    except Exception as error:
        with suppress(OSError):
            traceback.print_exc()
        log.emit(failed(_explain(error)))


def _explain(error: Exception) -> AgentError:
    """What nobody foresaw, in its own words."""
    said = traceback.format_exception_only(type(error), error)[-1].strip()
    known = explain_text(said) if isinstance(error, (OSError, MemoryError)) else None
    if known is not None:
        return AgentError(known.kind, f"{known} It said: {said}")
    if isinstance(error, OSError):
        text = f"the device's system refused what the agent needs: {said}. See to that there and "
        return AgentError("internal", text + "run it again; report it if it stays.")
    return AgentError("internal", f"the agent failed on its own account: {said}. Report this.")


def _do(path: Path, log: Log, watch: _Watch) -> Event:
    job = read_job(path)
    watch.begin(float(job.get("alone_s") or ALONE_S))
    turn = take_turn(path.resolve().parent, job, log.emit)
    watch.limit(job.get("limit_s"))
    with turn:
        return run_job(path, job, log.emit)


class _Watch:
    """Ends the worker when its time is up, or when nobody is there any more."""

    def __init__(self, log: Log, attended: Path) -> None:
        self._log, self._attended = log, attended
        self._limit_s: Optional[float] = None
        self._until = float("inf")

    def begin(self, alone_s: float) -> None:
        threading.Thread(target=self._look, args=[alone_s], daemon=True).start()

    def limit(self, limit_s: Optional[float]) -> None:
        if limit_s is not None:
            self._limit_s = float(limit_s)
            self._until = time.monotonic() + self._limit_s

    def _look(self, alone_s: float) -> None:
        # Clocks of small boards jump when the network tells them the time: what counts is that the
        # file's time changes, and how long it did not by a clock that never jumps.
        seen, since = self._seen(), time.monotonic()
        while not self._log.over:
            time.sleep(LOOK_S)
            now, found = time.monotonic(), self._seen()
            if found != seen:
                seen, since = found, now
            if found is None:
                self._end("gone", "its files were removed from the device in the middle of the run")
            elif now - since > alone_s:
                text = f"nobody listened for {alone_s:g} s, so it ended; it was at: "
                self._end("alone", text + self._log.doing)
            elif now > self._until:
                self._end("time", self._late())

    def _seen(self) -> Optional[int]:
        try:
            return self._attended.stat().st_mtime_ns
        except OSError:
            return None

    def _late(self) -> str:
        return (
            f"it was not done after {self._limit_s:g} s, which is all that it was given, and was "
            f"ended; it was at: {self._log.doing}. Allow more time, or give it less to do."
        )

    def _end(self, kind: str, message: str) -> None:
        try:
            self._log.emit(failed(AgentError(kind, message)))
        finally:
            try:
                locking.release(locking.place(self._attended.parents[1]), os.getpid())
            finally:
                os.killpg(0, signal.SIGKILL)
