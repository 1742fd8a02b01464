"""``python -m edgekd.agent job.json``: a job in, JSON lines out.

What it does is the job's ``task`` (:data:`edgekd.agent.tasks.TASKS`). The last line is
``{"event": "result", ...}``, or ``{"event": "error", "kind", "message"}``.

``python -m edgekd.agent keep RUN-job.json LINES`` does the same in a process of its own that goes
on when the link is cut, and prints its lines from one on; ``stop RUN-job.json`` ends it.
``clocks`` sets back what a run that died left fixed.

Models run in child processes (``python -m edgekd.agent job.json STEP ...``): a runtime that this
CPU cannot execute, or a model too big for its memory, ends the child and becomes a sentence here.
Nothing heavy is imported by the parent.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Sequence, Tuple

from edgekd.agent import keeper, locking
from edgekd.agent.children import HELD
from edgekd.agent.failures import AgentError
from edgekd.agent.patience import expendable
from edgekd.agent.tasks import run_job
from edgekd.agent.worker import failed, last_word, read_job

Event = Dict[str, Any]
FAILED = 1
ABANDONED = 3
NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
"""From 1.29 on, ONNX Runtime tells its makers what it runs, in a thread beside the model, and keeps
files of its own in the home folder, unless this is set before (microsoft/onnxruntime#27379)."""


def main(argv: Sequence[str]) -> int:
    """Run a job, or the steps of one, or keep one; the exit code says whether all went well."""
    os.environ.setdefault(NO_TELEMETRY, "1")  # for all that is started from here
    if argv[:1] == ["keep"] and len(argv) == 3 and argv[2].isdigit():
        keeper.keep(Path(argv[1]), int(argv[2]))
        return 0
    if argv[:1] == ["stop"] and len(argv) == 2:
        keeper.stop(Path(argv[1]))
        return 0
    if list(argv) == ["clocks"]:
        locking.restore(locking.place(Path.cwd()))
        return 0
    try:
        path, steps = Path(argv[0]), list(argv[1:])
        job = read_job(path)
    except IndexError:
        return _end(failed(AgentError("job", "expected a job of edgekd's: agent job.json")))
    except AgentError as error:
        return _end(failed(error))
    if not steps:
        return _end(last_word(lambda: run_job(path, job, emit)))
    if os.environ.get(HELD):
        threading.Thread(target=_leave_with_stdin, daemon=True).start()
    last = last_word(lambda: _run_steps(path, steps, str(job.get("task") or "profile")))
    return _end(last) if last["event"] == "error" else 0


def emit(event: Event) -> None:
    """Print an event at once."""
    sys.stdout.flush()
    sys.stdout.buffer.write(json.dumps(event, allow_nan=False).encode() + b"\n")  # in UTF-8 always
    sys.stdout.buffer.flush()


def _end(last: Event) -> int:
    emit(last)
    return FAILED if last["event"] == "error" else 0


def _leave_with_stdin() -> None:
    """End this process when the one that started it is gone: no child outlives its agent."""
    while os.read(0, 4096):  # not sys.stdin, whose lock aborts Python if it ends meanwhile
        pass
    os._exit(ABANDONED)


def _run_steps(path: Path, steps: Sequence[str], task: str) -> Event:
    """The child's side."""
    expendable()
    shelf, job = _shelf(path, task)
    logging.getLogger("edgekd.agent").addHandler(_Notes())
    logging.getLogger("edgekd.agent").setLevel(logging.INFO)
    for step in steps:
        name, _, index = step.partition(":")
        arguments = [int(index)] if index else []
        value = getattr(shelf, name)(job, *arguments, emit)
        emit({"event": "value", "step": step, "value": value})
    return {}


def _shelf(path: Path, task: str) -> Tuple[Any, Any]:
    """The module that has the steps of a task, and what they are given."""
    if task == "profile":
        from edgekd.agent import steps
        from edgekd.agent.job import Job

        return steps, Job.read(path)
    from edgekd.agent.tensorrt import task as engines

    return engines, path


class _Notes(logging.Handler):
    """What a step has to say by the way, as events."""

    def emit(self, record: logging.LogRecord) -> None:
        emit({"event": "note", "text": record.getMessage()})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
