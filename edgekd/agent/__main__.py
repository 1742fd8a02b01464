"""``python -m edgekd.agent job.json``: a job in, JSON lines out.

The last line is ``{"event": "result", ...}``, or ``{"event": "error", "kind", "message"}``.
Models run in child processes (``python -m edgekd.agent job.json STEP ...``): a runtime that this
CPU cannot execute, or a model too big for its memory, ends the child and becomes a sentence here.
Nothing heavy is imported by the parent.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, Sequence

from edgekd.agent import facts
from edgekd.agent.children import run_child
from edgekd.agent.failures import AgentError, Crash, explain, explain_import

AGENT = 1  # the version of what goes in and comes out
FAILED = 1
ABANDONED = 3


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
            _run_steps(path, steps)
        else:
            emit({"event": "result", **_run_job(path, job)})
    except AgentError as error:
        return _failed(error)
    except ImportError as error:
        return _failed(explain_import(str(error)) or AgentError("module", str(error)))
    return 0


def emit(event: Dict[str, Any]) -> None:
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


def _run_job(path: Path, job: Dict[str, Any]) -> Dict[str, Any]:
    """All steps, each in the process it needs."""
    device, before = facts.describe(), facts.moment()
    emit({"event": "hello", "agent": AGENT, "pid": os.getpid(), "device": device})
    names = [model["name"] for model in job["models"]]
    found: Dict[str, Any] = {}
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
        "device": device,
        "warnings": facts.warnings(device, before),
        "moments": {"before": before, "during": bench["during"], "after": after},
        "models": [_model(found, index) for index in range(len(names))],
        "comparisons": bench["comparisons"],
    }


def _model(found: Dict[str, Any], index: int) -> Dict[str, Any]:
    bench = found["bench"]
    return {
        **found[f"inspect:{index}"],
        "timing": bench["timings"][index],
        "verdict": bench["verdicts"][index],
        "reopened": bench["reopened"],
        "accuracy": found.get(f"accuracy:{index}"),
    }


def _in_child(
    path: Path, steps: List[str], job: Dict[str, Any], names: Sequence[str]
) -> Dict[str, Any]:
    """The values of steps run in a process of their own, by step."""
    free = facts.moment()["free_bytes"]
    ended = run_child([str(path), *steps], emit)
    if ended.error is not None:
        raise ended.error
    if ended.code != 0:
        models, cpu = " and ".join(names), facts.cpu_model()
        raise explain(Crash(ended.code, ended.stderr, models, job["runtime"], cpu, free))
    return ended.values


def _run_steps(path: Path, steps: Sequence[str]) -> None:
    """The child's side."""
    from edgekd.agent import steps as shelf
    from edgekd.agent.job import Job

    job = Job.read(path)
    for step in steps:
        name, _, index = step.partition(":")
        arguments = [int(index)] if index else []
        value = getattr(shelf, name)(job, *arguments, emit)
        emit({"event": "value", "step": step, "value": value})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
