"""A child process of the agent: its events, its values, and how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Sequence, Tuple

from edgekd.agent import facts
from edgekd.agent.failures import AgentError, Crash, explain

ROOT = Path(__file__).resolve().parents[2]  # the folder, or the zip, that holds edgekd/
HELD = "EDGEKD_HELD"
"""Set for a child whose standard input is held open, and which has to end when that does."""


@dataclass(frozen=True)
class Ended:
    """What a child left behind."""

    code: int
    values: Dict[str, Any]
    error: Optional[AgentError]
    stderr: str


@dataclass(frozen=True)
class Stage:
    """A job that is being done: the way to processes of their own for its steps."""

    path: Path
    """The job's file."""
    job: Mapping[str, Any]
    device: Mapping[str, Any]
    """As :func:`edgekd.agent.facts.describe` says."""
    emit: Callable[[Dict[str, Any]], None]

    def child(self, steps: Sequence[str], names: Sequence[str]) -> Dict[str, Any]:
        """The values of steps run in one process of their own, by step.

        Args:
            steps: functions of the task's module, with the index of a model: ``inspect:0``.
            names: the models in it, for messages.

        Raises:
            AgentError: the step's own, or what the process's end means.
        """
        free = facts.free_bytes()
        ended = run_child([str(self.path), *steps], self.emit)
        if ended.error is not None:
            raise ended.error
        if ended.code != 0:
            who, runtime = " and ".join(names), str(self.job.get("runtime", "a probe"))
            raise explain(Crash(ended.code, ended.stderr, who, runtime, facts.cpu_model(), free))
        return ended.values


def run_child(
    arguments: Sequence[str],
    emit: Callable[[Dict[str, Any]], None],
    command: Sequence[str] = (sys.executable, "-m", "edgekd.agent"),
) -> Ended:
    """Run the agent once more, in a process of its own, and pass its events on as they come."""
    with tempfile.TemporaryFile() as stderr:
        with subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,  # held open: the child ends when this process does
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, HELD: "1", "PYTHONPATH": _search_path(os.environ)},
        ) as child:
            values, error = _listen(child.stdout or (), emit)
            code = child.wait()
        stderr.seek(0)
        return Ended(code, values, error, stderr.read().decode("utf-8", errors="replace"))


def _listen(
    lines: Iterable[bytes], emit: Callable[[Dict[str, Any]], None]
) -> Tuple[Dict[str, Any], Optional[AgentError]]:
    values: Dict[str, Any] = {}
    error = None
    for line in lines:
        event = _event(line)
        if event.get("event") == "value":
            values[event["step"]] = event["value"]
        elif event.get("event") == "error":
            error = AgentError(event["kind"], event["message"])
        elif event:
            emit(event)
    return values, error


def _event(line: bytes) -> Dict[str, Any]:
    """An event, or nothing where a library wrote to standard output."""
    try:
        event = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) and "event" in event else {}


def _search_path(environment: Mapping[str, str]) -> str:
    inherited = environment.get("PYTHONPATH")
    return str(ROOT) + os.pathsep + inherited if inherited else str(ROOT)
