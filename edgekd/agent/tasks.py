"""What an agent can be asked to do: each task of a job, its steps in the processes they need."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Dict

from edgekd.agent import facts, locking
from edgekd.agent.children import Stage
from edgekd.agent.failures import AgentError
from edgekd.agent.profile_task import profile

Event = Dict[str, Any]
Emit = Callable[[Event], None]
AGENT = 2  # the version of what goes in and comes out


def run_job(path: Path, job: Event, emit: Emit) -> Event:
    """All steps of a job's task.

    Args:
        path: the job's file.
        job: what is in it.
        emit: told every event.

    Raises:
        AgentError: with what the person at the other end has to know.
    """
    task = str(job.get("task") or "profile")
    if task not in TASKS:
        raise AgentError("job", f"the task is {task!r}; expected one of {', '.join(TASKS)}.")
    wanted = bool((job.get("policy") or {}).get("lock_clocks"))
    with locking.held(locking.place(path.resolve().parent), wanted) as notes:
        device = facts.describe()  # with the clocks as they are while it measures
        emit({"event": "hello", "agent": AGENT, "pid": os.getpid(), "device": device})
        found = {"device": device, **TASKS[task](Stage(path, job, device, emit))}
    return {**found, "warnings": [*found.get("warnings", ()), *notes]} if notes else found


def _describe(stage: Stage) -> Event:
    """What runtimes need to know of the device; a library that crashes is an answer too."""
    try:
        found: Event = stage.child(["describe"], ["its probe"])["describe"]
    except AgentError as error:
        found = {"cuda": None, "tensorrt": None, "error": str(error)}
    return found


def _build(stage: Stage) -> Event:
    """An engine, then what it says about the job's images: in a process that built nothing."""
    names = [Path(str(stage.job["build"]["onnx"])).name]
    built: Event = stage.child(["build"], names)["build"]
    if stage.job.get("images"):
        built = {**built, **stage.child(["answers"], names)["answers"]}
    return built


def _survey(stage: Stage) -> Event:
    from edgekd.agent.survey import survey

    return survey(stage)


def _furnish(stage: Stage) -> Event:
    from edgekd.agent.furnish import furnish

    return furnish(stage)


TASKS: Dict[str, Callable[[Stage], Event]] = {
    "profile": profile,
    "describe": _describe,
    "build": _build,
    "survey": _survey,
    "furnish": _furnish,
}
