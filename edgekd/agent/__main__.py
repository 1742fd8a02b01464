"""``python -m edgekd.agent job.json``: a job in, JSON lines out.

What it does is the job's ``task``: ``profile`` (measure models; the default), ``describe`` (say
what is here) or ``build`` (make a TensorRT engine and let it answer). The last line is
``{"event": "result", ...}``, or ``{"event": "error", "kind", "message"}``.

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
from typing import Any, Callable, Dict, List, Sequence, Tuple

from edgekd.agent import facts
from edgekd.agent.children import run_child
from edgekd.agent.failures import AgentError, Crash, explain, explain_import

Event = Dict[str, Any]
AGENT = 1  # the version of what goes in and comes out
FAILED = 1
ABANDONED = 3
BUILT = ("trt",)  # runtimes that make something of a model before they can open it


def main(argv: Sequence[str]) -> int:
    """Run a job, or the steps of one; the exit code says whether all went well."""
    try:
        path, steps = Path(argv[0]), list(argv[1:])
        job = json.loads(path.read_text("utf-8"))
        if job.get("agent") != AGENT:
            raise AgentError("job", f"{path} is for agent {job.get('agent')}, this is {AGENT}.")
    except (AgentError, IndexError, OSError, ValueError) as error:
        return _failed(AgentError("job", f"expected a job of edgekd's: agent job.json ({error})"))
    if job.get("exit_with_stdin"):
        threading.Thread(target=_leave_with_stdin, daemon=True).start()
    try:
        if steps:
            _run_steps(path, steps, str(job.get("task") or "profile"))
        else:
            emit({"event": "result", **_run_job(path, job)})
    except AgentError as error:
        return _failed(error)
    except ImportError as error:
        return _failed(explain_import(str(error)) or AgentError("module", str(error)))
    return 0


def emit(event: Event) -> None:
    """Print an event at once."""
    sys.stdout.write(json.dumps(event, allow_nan=False) + "\n")
    sys.stdout.flush()


def _failed(error: AgentError) -> int:
    emit({"event": "error", "kind": error.kind, "message": str(error)})
    return FAILED


def _leave_with_stdin() -> None:
    """End this process when whoever started it is gone: a cut ssh leaves no orphans."""
    while os.read(0, 4096):  # not sys.stdin, whose lock aborts Python if it ends meanwhile
        pass
    os._exit(ABANDONED)


def _run_job(path: Path, job: Event) -> Event:
    """All steps of the job's task, each in the process it needs."""
    task = str(job.get("task") or "profile")
    if task not in _TASKS:
        raise AgentError("job", f"the task is {task!r}; expected one of {', '.join(_TASKS)}.")
    device = facts.describe()
    emit({"event": "hello", "agent": AGENT, "pid": os.getpid(), "device": device})
    return {"device": device, **_TASKS[task](path, job, device)}


def _describe(path: Path, job: Event, device: Event) -> Event:
    """What runtimes need to know of the device; a library that crashes is an answer too."""
    try:
        found: Event = _in_child(path, ["describe"], job, ["its probe"])["describe"]
    except AgentError as error:
        found = {"cuda": None, "tensorrt": None, "error": str(error)}
    return found


def _build(path: Path, job: Event, device: Event) -> Event:
    """An engine, then what it says about the job's images: in a process that built nothing."""
    names = [Path(str(job["build"]["onnx"])).name]
    built: Event = _in_child(path, ["build"], job, names)["build"]
    if job.get("images"):
        built = {**built, **_in_child(path, ["answers"], job, names)["answers"]}
    return built


def _profile(path: Path, job: Event, device: Event) -> Event:
    """Measure models."""
    before = facts.moment()
    names = [model["name"] for model in job["models"]]
    found: Event = {}
    if job["runtime"] in BUILT:
        for index, name in enumerate(names):  # apart: building takes memory, and can take the GPU
            _in_child(path, [f"prepare:{index}"], job, [name])
    if len(names) == 1:  # one process is enough: it holds one model
        found.update(_in_child(path, ["inspect:0", "bench"], job, names))
    else:
        for index, name in enumerate(names):
            found.update(_in_child(path, [f"inspect:{index}"], job, [name]))
        found.update(_in_child(path, ["bench"], job, names))
    after = facts.moment()
    if job.get("images"):
        for index, name in enumerate(names):
            found.update(_in_child(path, [f"accuracy:{index}"], job, [name]))
    bench = found["bench"]
    return {
        "warnings": facts.warnings(device, before),
        "moments": {"before": before, "during": bench["during"], "after": after},
        "models": [_model(found, index) for index in range(len(names))],
        "comparisons": bench["comparisons"],
    }


def _model(found: Event, index: int) -> Event:
    bench = found["bench"]
    return {
        **found[f"inspect:{index}"],
        "timing": bench["timings"][index],
        "verdict": bench["verdicts"][index],
        "reopened": bench["reopened"],
        "accuracy": found.get(f"accuracy:{index}"),
    }


def _in_child(path: Path, steps: List[str], job: Event, names: Sequence[str]) -> Event:
    """The values of steps run in a process of their own, by step."""
    free = facts.moment()["free_bytes"]
    ended = run_child([str(path), *steps], emit)
    if ended.error is not None:
        raise ended.error
    if ended.code != 0:
        models, cpu = " and ".join(names), facts.cpu_model()
        raise explain(
            Crash(ended.code, ended.stderr, models, str(job.get("runtime", "a probe")), cpu, free)
        )
    return ended.values


def _run_steps(path: Path, steps: Sequence[str], task: str) -> None:
    """The child's side."""
    shelf, job = _shelf(path, task)
    logging.getLogger("edgekd.agent").addHandler(_Notes())
    logging.getLogger("edgekd.agent").setLevel(logging.INFO)
    for step in steps:
        name, _, index = step.partition(":")
        arguments = [int(index)] if index else []
        value = getattr(shelf, name)(job, *arguments, emit)
        emit({"event": "value", "step": step, "value": value})


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


_TASKS: Dict[str, Callable[[Path, Event, Event], Event]] = {
    "profile": _profile,
    "describe": _describe,
    "build": _build,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
