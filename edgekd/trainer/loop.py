"""The one training loop: teacher, student and baseline all run here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from edgekd.data import Batch
from edgekd.errors import CrewError, DivergedError, UsageError
from edgekd.features import Features
from edgekd.files import aside
from edgekd.models import weights
from edgekd.trainer import checkpoint, collective, compiling, pace
from edgekd.trainer.accord import Accord
from edgekd.trainer.engine import Engine
from edgekd.trainer.evaluate import Scores, evaluate
from edgekd.trainer.metrics import Metrics
from edgekd.trainer.pace import Pace
from edgekd.trainer.resident import told_peak
from edgekd.trainer.signals import Ears
from edgekd.trainer.starting import check_shares, images_per_step
from edgekd.trainer.task import Task

RESULT = "student.safetensors"
"""The network as the last finished epoch left it."""

Tell = Callable[[int, int, str], None]
"""Told how many steps are done, of how many, and the latest figures."""


class Interrupted(KeyboardInterrupt):
    """A signal asked to end, whose number it holds; the state is on disk."""


@dataclass(frozen=True)
class Trained:
    """What a training left."""

    model: nn.Module
    """The student, or its moving average; bare, in evaluation mode, on the CPU."""
    validation: Scores
    """In float, also where the training rounds."""
    facts: dict[str, Any]
    """The ``training`` section of a manifest."""
    peer: nn.Module | None = None
    """The network that learned beside it."""


class Trainer:
    """Train one network; a run that was cut off goes on where its last checkpoint left it.

    The loop never waits for a number between two log points: losses are summed on the device they
    were computed on.
    """

    def __init__(
        self,
        task: Task,
        tell: Tell = lambda done, total, note: None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._task, self._tell = task, tell
        self._total = len(task.loaders.train) * task.train.epochs
        if not self._total:
            raise UsageError("there is nothing to train: no epochs, or not one whole batch.")
        check_shares(task.loaders, task.train)
        self._engine = engine = Engine(task, say)
        self._say, self._pace = say, Pace(task.loaders.train, say)
        self._metrics = Metrics(task.folder / "metrics.jsonl", engine.step, engine.accelerator)
        self._accord = Accord(engine.step)
        self._saved_at, self._logged_at = time.monotonic(), time.perf_counter()
        self._scores: dict[str, Scores] = {}
        self._ears = Ears()
        self._is_here = self.device.type == "cpu"

    def run(self) -> Trained:
        """Train to the end.

        Raises:
            DivergedError: a loss or a parameter is no longer finite; the last good state is kept.
            Interrupted: Ctrl-C or SIGTERM; the state was saved.
            CrewError: there is nobody to decode images any more; the state was saved.
        """
        with self._ears.listening():
            try:
                self._train()
            except CrewError:  # between two steps, in the midst of an evaluation at most
                self.save()
                raise
        trained = self.finish()
        self._say(told_peak(trained.facts["peak_gb"]))
        return trained

    def _train(self) -> None:
        while not self.is_done:
            epoch, start = divmod(self.step, self._engine.per_epoch)
            for batch in self._pace.of(self._task.loaders.train.epoch(epoch, start)):
                self.advance(batch)
                if self.attend(self._ears.heard):
                    raise Interrupted(self._ears.number)

    @property
    def step(self) -> int:
        """How many steps are done."""
        return self._engine.step

    @property
    def is_done(self) -> bool:
        """Whether there is no step left."""
        return self._engine.step >= self._total

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        found: torch.device = self._engine.accelerator.device
        return found

    @property
    def needs(self) -> frozenset[str]:
        """What the method looks at."""
        return self._task.method.needs

    @property
    def result(self) -> nn.Module:
        """The student as it is now, or its moving average."""
        return self._engine.result

    @property
    def autocast(self) -> Callable[[], Any]:
        """What computes in the precision of this training."""
        made: Callable[[], Any] = self._engine.autocast
        return made

    def advance(self, batch: Batch, teacher: Features | None = None) -> None:
        """Forward, backward, update, without one host synchronisation.

        Args:
            batch: from the loader.
            teacher: what the teacher showed for it, where it has been asked already.
        """
        engine = self._engine
        batch = self._placed(batch)
        if self._task.train.compile:
            compiling.mark()
        engine.rounding.observe(batch.progress)
        engine.scheduler.step_update(engine.step)
        if teacher is None and engine.teacher is not None:
            teacher = engine.ask(batch)
        engine.begin()
        loss, losses = engine.learner(batch, teacher)
        engine.update(loss, self._task.train.clip)
        engine.bare.constrain()
        engine.step += 1
        engine.average()
        torch._foreach_add_(engine.sums, losses)
        engine.summed += 1

    def _placed(self, batch: Batch) -> Batch:
        batch = replace(batch, progress=self._engine.step / self._total)
        return batch if self._is_here else batch.to(self.device)

    def wait(self, seconds: float) -> None:
        """Leave out of its own time what others took of it."""
        self._engine.wait(seconds)
        self._logged_at += seconds

    def attend(self, stopping: bool = False) -> bool:
        """After a step: log, evaluate and save where it is time to, or where all is to stop.

        Returns:
            Whether all is to stop now. Several processes agree on it, and on when to save, where
            they log and every few seconds.
        """
        step, train = self._engine.step, self._task.train
        ended = step % self._engine.per_epoch == 0
        logged = ended or step % train.log_steps == 0
        if logged:
            note = self._log()
            if ended:
                self._check()
                note = self._evaluate(step // self._engine.per_epoch)
            self._tell(step, self._total, note)
        due = time.monotonic() - self._saved_at > 60 * train.checkpoint_minutes
        if self._engine.world.size > 1:
            if not (logged or self._accord.is_due(step)):
                return False
            stopping, due = self._accord.reach(step, stopping, due)
        if stopping or (logged and due):
            self._engine.level()
            self.save()
        if stopping:
            collective.wait()  # who says that the state is saved must not be early
        return stopping

    def _log(self) -> str:
        engine = self._engine
        names = list(self._task.method.weights)
        sums = collective.mean(torch.stack(engine.sums)) / max(1, engine.summed)
        means = dict(zip(names, sums.tolist(), strict=True))
        wrong = [name for name, value in means.items() if not abs(value) < float("inf")]
        if wrong:
            raise self._diverged(f"the loss {' and '.join(wrong)} is no longer finite")
        seconds = time.perf_counter() - self._logged_at
        rates = self._pace.told(engine.summed * images_per_step(self._task), seconds)
        record = {
            "step": engine.step,
            "epoch": engine.step / engine.per_epoch,
            "progress": engine.step / self._total,
            "lr": engine.optimizer.param_groups[0]["lr"],
            "losses": {name: float(f"{value:.6g}") for name, value in means.items()},
            "images_per_s": rates,
        }
        if engine.asker is not None and (hits := engine.asker.hits()) is not None:
            record["teacher_hits"] = round(hits, 4)
        self._metrics.write(record)
        torch._foreach_zero_(engine.sums)
        engine.summed, self._logged_at = 0, time.perf_counter()
        return f"loss {sum(means.values()):.3f}  {pace.told(rates)}"

    def _evaluate(self, epoch: int) -> str:
        engine = self._engine
        self._scores = self._judge()
        figures = {name: scores.to_dict() for name, scores in self._scores.items()}
        self._metrics.write({"step": engine.step, "epoch": epoch, **figures})
        if engine.accelerator.is_main_process:
            with aside(self._task.folder / RESULT) as draft:
                weights.write(engine.result, draft)
        self._logged_at = time.perf_counter()
        self._pace.end()
        told = ", ".join(f"{name} {scores.top1:.1%}" for name, scores in self._scores.items())
        return f"epoch {epoch}: {told}"

    def _judge(self) -> dict[str, Scores]:
        """Scores on validation images: in float, and simulated where the training rounds."""
        engine = self._engine
        given = engine.result, self._task.loaders.validation, engine.accelerator.device
        with engine.rounding.in_float():
            found = {"validation": evaluate(*given)}
        if self._task.train.quantise:
            found["simulated"] = evaluate(*given)
        for name, scores in found.items():
            if not math.isfinite(scores.loss):  # parameters can be huge, and still be numbers
                raise self._diverged(f"the {name} loss is no longer finite")
        return found

    def _check(self) -> None:
        if not self._engine.is_finite():
            raise self._diverged("a parameter is no longer finite")

    def save(self) -> None:
        """Write a checkpoint, unless something in it is no longer a number."""
        self._check()
        self._engine.save()
        self._saved_at = time.monotonic()

    def finish(self) -> Trained:
        """After the last step: save, and hand the network over."""
        engine, train = self._engine, self._task.train
        scores = self._scores or self._judge()  # none where only the end was left to do
        self.save()
        if engine.asker is not None:
            engine.asker.finish()
        engine.release()
        facts = {
            "epochs": train.epochs,
            "steps": self._total,
            "seconds": round(engine.seconds, 3),
            "precision": engine.precision,
            "torch_device": engine.accelerator.device.type,
            "peak_gb": engine.peak_gb(),
        }
        if engine.world.size > 1:
            facts["processes"] = engine.world.size
        if train.quantise:
            simulated = {"validation": scores["simulated"].to_dict()}
            facts |= {"quantise": train.quantise, "simulated": simulated}
        peer = engine.peer
        if peer is not None:
            peer = peer.to("cpu").eval()
        return Trained(engine.result.to("cpu").eval(), scores["validation"], facts, peer)

    def _diverged(self, what: str) -> DivergedError:
        folder, train = self._task.folder, self._task.train
        good = [name for name in (checkpoint.NAME, RESULT) if (folder / name).is_file()]
        kept = f"The last good state is kept: {' and '.join(good)} in {folder}. " if good else ""
        ways = [f"lower the learning rate (now {train.lr:g})"]
        ways += [] if train.clip else ["clip the gradient (clip = 1)"]
        ways += [] if self._engine.precision == "fp32" else ["compute in fp32"]
        return DivergedError(
            f"{what} at step {self._engine.step} of {self._total}.",
            f"{kept}To go on, {' or '.join(ways)}, and start again with --restart.",
        )
