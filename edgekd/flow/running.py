"""Run the whole mission: teacher, student, baseline, export, profile, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from edgekd import report
from edgekd.artifact import Artifact
from edgekd.files import write_json, write_text
from edgekd.flow.baseline import answers, compare_alone
from edgekd.flow.exporting import export_network
from edgekd.flow.measuring import Truth, measure
from edgekd.flow.training import adopt, distill, teach
from edgekd.models.zoo import HUB
from edgekd.profiling import Policy
from edgekd.recipe import Network, Recipe
from edgekd.watching import Silent, Watch

T = TypeVar("T")


@dataclass
class Run:
    """One run folder; every stage that is finished in it is taken as it is."""

    recipe: Recipe
    out: Path
    watch: Watch = field(default_factory=Silent)
    baseline: str = "cost"
    """``cost``: the baseline trains as long as distilling took; ``epochs``: as many; ``none``."""
    restart: bool = False
    command: str = "edgekd run"
    seconds: dict[str, float] = field(default_factory=dict)
    decisions: list[str] = field(default_factory=list)

    def timed(self, stage: str, work: Callable[[], T]) -> T:
        """Do a stage and note how long it took."""
        begin = time.monotonic()
        done = work()
        self.seconds[stage] = round(time.monotonic() - begin, 2)
        return done

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Pass on."""
        self.watch.progress(stage, done, total, note)

    def say(self, text: str) -> None:
        """Note what was decided or found, for the report, and pass it on."""
        self.decisions.append(text)
        self.watch.say(text)


def run(task: Run) -> dict[str, Any]:
    """Do every stage and write the report.

    Returns:
        The run's summary, as ``run.json`` holds it, with the report's paths under ``report``.
    """
    write_text(task.out / "recipe.toml", task.recipe.to_toml())
    teacher = task.timed("teach", lambda: _teacher(task))
    trained = Network("", str(teacher.path))
    recipe = replace(task.recipe, teacher=trained)
    student = task.timed(
        "distill",
        lambda: distill(recipe, task.out / "student", task, restart=task.restart),
    )
    gain = None
    if task.baseline != "none":
        out = task.out / "baseline"
        _, gain = task.timed(
            "baseline",
            lambda: compare_alone(recipe, student, out, task.baseline, task, restart=task.restart),
        )
    exported = task.timed("export", lambda: _exports(task, teacher, student))
    task.timed("profile", lambda: _measure(task, exported, student))
    summary = {
        "command": task.command,
        "gain": gain,
        "decisions": task.decisions,
        "seconds": task.seconds,
    }
    write_json(task.out / "run.json", summary)
    paths = report.write(task.out)
    return summary | {"report": {kind: str(path) for kind, path in paths.items()}}


def _teacher(task: Run) -> Artifact:
    out, given = task.out / "teacher", task.recipe.teacher
    if given.weights or given.name.startswith(HUB):
        return adopt(task.recipe, out, task)
    return teach(task.recipe, out, task, restart=task.restart)


def _exports(task: Run, teacher: Artifact, student: Artifact) -> list[Path]:
    made = []
    for network, name in ((student, "student-onnx"), (teacher, "teacher-onnx")):
        out = task.out / name
        export_network(network, out, task.recipe.export, task.recipe.data, task)
        made.append(out)
    return made


def _measure(task: Run, exported: list[Path], student: Artifact) -> None:
    asked = task.recipe.profile
    policy = Policy(
        batch_size=asked.batch_size, threads=asked.threads, max_seconds=asked.max_seconds
    )
    truth = Truth(task.recipe.data, answers(student)["predictions"])
    out = task.out / "profile.json"
    measure(exported, policy, asked.device, truth, out, task)
