"""Run the whole mission: teacher, student, baseline, export, profile, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from edgekd import report
from edgekd.artifact import MANIFEST, Artifact
from edgekd.claims import claim
from edgekd.files import sha256, sweep, write_json, write_text
from edgekd.flow.baseline import answers, compare_alone
from edgekd.flow.exporting import already_exported, export_network
from edgekd.flow.findings import Proofs
from edgekd.flow.measuring import Truth, check_earlier, measure
from edgekd.flow.policies import policy_for
from edgekd.flow.preflight import RECIPE, SUMMARY, check_run
from edgekd.flow.training import adopt, comes_trained, distill, teach
from edgekd.recipe import Network, Recipe
from edgekd.schema import RUN
from edgekd.watching import Silent, Watch

T = TypeVar("T")
PROFILE = "profile.json"


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
    earlier: dict[str, Any] = field(default_factory=dict)
    """The summary of the last run in this folder."""

    def recall(self) -> None:
        """Read what the last run in this folder said, for the stages that are not done again.

        Raises:
            UsageError: it is of a newer edgekd.
        """
        found = {} if self.restart else RUN.found(self.out / SUMMARY)
        said, took = found.get("decisions", []), found.get("seconds", {})
        whole = isinstance(said, list) and isinstance(took, dict)
        self.earlier = found if whole else {}  # a damaged one is written anew
        self.decisions = list(self.earlier.get("decisions", ()))

    def timed(self, stage: str, work: Callable[[], T], made: Path) -> T:
        """Do a stage and note how long it took; one that is done already took what it took then.

        Args:
            stage: its name.
            work: does it.
            made: the artifact or the file it leaves.
        """
        begin, before = time.monotonic(), _written_at(made)
        done = work()
        self.seconds[stage] = round(time.monotonic() - begin, 2)
        if before is not None and before == _written_at(made):
            earlier = self.earlier.get("seconds", {})
            self.seconds[stage] = earlier.get(stage, self.seconds[stage])
        self.note()
        return done

    def note(self) -> None:
        """Keep what is known so far, as a run that is killed is not to forget it."""
        known = {"command": self.command, "decisions": self.decisions}
        seconds = {**self.earlier.get("seconds", {}), **self.seconds}
        write_json(self.out / SUMMARY, {**self.earlier, **RUN.head, **known, "seconds": seconds})

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Pass on."""
        self.watch.progress(stage, done, total, note)

    def say(self, text: str) -> None:
        """Note what was decided or found, for the report, and pass it on."""
        if text not in self.decisions:
            self.decisions.append(text)
            self.note()
        self.watch.say(text)


def run(task: Run) -> dict[str, Any]:
    """Do every stage and write the report.

    Returns:
        The run's summary, as ``run.json`` holds it, with the report's paths under ``report``.

    Raises:
        UsageError: what the last stage cannot do is refused before the first one begins.
        GateError: the teacher is near chance, or an exported file is not the network.
    """
    with claim(task.out, "run"):
        return _run(task)


def _run(task: Run) -> dict[str, Any]:
    check_run(task.recipe, task.out)
    check_earlier(task.out / PROFILE)
    sweep(task.out)
    task.recall()
    out = task.out
    teacher = task.timed("teach", lambda: teacher_for(task), out / "teacher")
    write_text(out / RECIPE, task.recipe.to_toml())
    recipe = replace(task.recipe, teacher=Network("", str(teacher.path)))
    student = task.timed(
        "distill",
        lambda: distill(recipe, out / "student", task, restart=task.restart),
        out / "student",
    )
    gain = _baseline(task, recipe, student)
    exported = task.timed("export", lambda: _exports(task, teacher, student), out / "student-onnx")
    measured = task.timed("profile", lambda: _measure(task, exported, student), out / PROFILE)
    summary = {
        **RUN.head,
        "command": task.command,
        "gain": gain,
        "decisions": task.decisions,
        "seconds": task.seconds,
        "measured": measured,
    }
    write_json(out / SUMMARY, summary)
    paths = report.write(out)
    return summary | {"report": {kind: str(path) for kind, path in paths.items()}}


def teacher_for(task: Run) -> Artifact:
    """Train the recipe's teacher, or adopt it where it comes with weights."""
    make = adopt if comes_trained(task.recipe.teacher) else teach
    return make(task.recipe, task.out / "teacher", task, restart=task.restart)


def _baseline(task: Run, recipe: Recipe, student: Artifact) -> dict[str, Any] | None:
    if task.baseline == "none":
        return None
    out = task.out / "baseline"
    _, gain = task.timed(
        "baseline",
        lambda: compare_alone(recipe, student, out, task.baseline, task, restart=task.restart),
        out,
    )
    return gain


def _exports(task: Run, teacher: Artifact, student: Artifact) -> list[Artifact]:
    """The student as the recipe says, and the teacher in float32, to be compared with."""
    recipe, made = task.recipe, []
    device, plain = recipe.profile.device, replace(recipe.export, precision="fp32")
    asked = ((student, "student-onnx", recipe.export), (teacher, "teacher-onnx", plain))
    for network, name, options in asked:
        out = task.out / name
        done = None if task.restart else already_exported(network, out, options, device)
        if done is not None:
            task.progress("export", 1, 1, f"already exported, in {out}")
        made.append(done or export_network(network, out, options, recipe.data, task, device=device))
    return made


def _measure(task: Run, exported: list[Artifact], student: Artifact) -> dict[str, Any]:
    """Measure, unless the last run measured these very files; say what was measured."""
    asked, out = task.recipe.profile, task.out / PROFILE
    measured = {"models": [sha256(made.model_file) for made in exported], **asdict(asked)}
    if out.is_file() and task.earlier.get("measured") == measured:
        task.progress("profile", 1, 1, f"already measured, in {out}")
        return measured
    said: dict[str, Any] = {"batch_size": asked.batch_size, "max_seconds": asked.max_seconds}
    if asked.threads:
        said["threads"] = asked.threads
    policy = policy_for(asked.device, said)
    truth = Truth(task.recipe.data, answers(student)["predictions"])
    measure(
        [made.path for made in exported],
        policy,
        asked.device,
        truth,
        out,
        task,
        proofs=Proofs.REQUIRED,
    )
    return measured


def _written_at(made: Path) -> int | None:
    """Of the manifest in an artifact's folder, or of the file; ``None`` where there is none."""
    file = made if made.suffix else made / MANIFEST
    return file.stat().st_mtime_ns if file.is_file() else None
