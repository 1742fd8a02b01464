"""Two processes that train what a test asks for: ``python pair.py COURSES.json`` in each of them.

A course is what is handed to :func:`course`; what every process found is left in its folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekd.data import Batch, Loader
from edgekd.errors import EdgeKDError
from edgekd.loading import Share, loaders, open_splits
from edgekd.methods import Method
from edgekd.models import build, weights
from edgekd.recipe import Data, Network, Train
from edgekd.trainer import Interrupted, Library, Task, Trainer, accord, collective
from edgekd.trainer.company import Company
from edgekd.trainer.resident import own_peak
from edgekd.world import world

DATA = Data("digits", size=8, limit=200, validation=0.2)
TRAIN = Train(epochs=2, batch_size=32, precision="fp32", warmup_epochs=0.5, log_steps=1)

OWN = ("seconds", "peak_gb")
"""What each process measures of itself."""


class InDouble:
    """A loader whose images are float64."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, *which: int) -> Iterator[Batch]:
        for batch in self._loader.epoch(*which):
            yield replace(batch, image=batch.image.double())


@contextmanager
def doubled() -> Iterator[None]:
    """All that is made is float64, and stays so: a rounding is no longer as large as a mistake."""
    original, build = Tensor.float, Method.build

    def wide(tensor: Tensor, *how: Any, **more: Any) -> Tensor:
        return tensor if tensor.dtype == torch.float64 else original(tensor, *how, **more)

    def built(method: Method, *shown: Any) -> None:
        build(method, *shown)
        method.double()

    torch.set_default_dtype(torch.float64)
    Tensor.float, Method.build = wide, built  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Tensor.float, Method.build = original, build  # type: ignore[method-assign]
        torch.set_default_dtype(torch.float32)


def course(
    folder: Path, *, steps: int = 0, stop: int = 0, agree_s: float = 3.0, **given: Any
) -> dict[str, Any]:
    """Train to the end, or ``steps`` steps; give back what every process has to agree on.

    A few steps are made in float64. With ``stop``, one of the processes is asked to end after so
    many steps. The processes ask each other every ``agree_s`` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if steps:
        with doubled():
            task = task_of(folder, **given)
            task = replace(task, loaders=replace(task.loaders, train=InDouble(task.loaders.train)))
            return _few(_begun(task), task, steps)
    usual, accord.EVERY_S = accord.EVERY_S, agree_s
    try:
        return _whole(_begun(task_of(folder, **given)), folder, stop)
    finally:
        accord.EVERY_S = usual


def task_of(
    folder: Path,
    method: str = "ce",
    student: str = "resnet8",
    teacher: str = "",
    peer: str = "",
    options: dict[str, Any] | None = None,
    library: str = "",
    **settings: Any,
) -> Task:
    """What is trained, on this process's share of the images."""
    splits = open_splits(DATA)
    train, here = replace(TRAIN, **settings), world()

    def network(name: str, seed: int) -> Any:
        torch.manual_seed(seed)
        return build(Network(name), splits.labels, DATA.size)

    learning = network(student, 0)
    share = Share(here.rank, here.size, here.neighbours)
    return Task(
        learning,
        network(teacher, 1) if teacher else None,
        Method.parse(method, options),
        loaders(splits, learning.preprocess, DATA, train, share),
        train,
        folder,
        "f" * 8,
        Library(folder.parent / library, lambda: "key") if library else None,
        network(peer, 2) if peer else None,
    )


def _begun(task: Task) -> Trainer:
    trainer = Trainer(task)
    if world().size == 1:  # one process draws the random numbers that several would
        for number, learner in enumerate(trainer._engine.bare.learners):
            learner.company = Company(task.train.seed, number)
    return trainer


def _whole(trainer: Trainer, folder: Path, stop: int) -> dict[str, Any]:
    here, advance = world(), trainer.advance

    def advancing(batch: Batch) -> None:
        advance(batch)
        if trainer.step == stop and here.rank == here.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.advance = advancing  # type: ignore[method-assign, assignment]
    try:
        trained = trainer.run()
    except Interrupted:
        return {"stopped": trainer.step}
    own = collective.total(torch.tensor([own_peak() / 1e9]))
    state = trained.model.state_dict()
    weights.write(trained.model, folder / f"result-{here.rank}.safetensors")
    bare = all("forward" not in vars(module) for module in trained.model.modules())
    return {
        "scores": trained.validation.to_dict(),
        "predictions": trained.validation.predictions.tolist(),
        "sum": sum(float(value.double().sum()) for value in state.values()),
        "facts": {key: value for key, value in trained.facts.items() if key not in OWN},
        "bare": bare,
        "peak of all": abs(trained.facts["peak_gb"] - float(own)) < 0.1 * float(own),
    }


def _few(trainer: Trainer, task: Task, steps: int) -> dict[str, Any]:
    """The gradients of the last of a few steps, and the state of the method."""
    engine = trainer._engine
    for batch in task.loaders.train.epoch(0):
        engine.optimizer.zero_grad()
        engine.optimizer.zero_grad, kept = lambda: None, engine.optimizer.zero_grad  # type: ignore
        for learner in engine.bare.learners:
            assert learner.company is not None
            learner.company.begin(trainer.step)
        trainer.advance(batch)
        engine.optimizer.zero_grad = kept  # type: ignore[method-assign]
        if trainer.step == steps:
            break
    found = {n: p.grad for n, p in engine.bare.named_parameters() if p.grad is not None}
    found |= {f"buffer {name}": buffer.float() for name, buffer in engine.bare.named_buffers()}
    torch.save(found, task.folder / f"gradients-{world().rank}.pt")
    losses = collective.mean(torch.stack(engine.sums)).tolist()
    return {"losses": losses}


def main() -> None:
    """All courses, one after the other."""
    collective.meet()
    torch.set_num_threads(1)
    for given in json.loads(Path(sys.argv[1]).read_text("utf-8")):
        folder = Path(given.pop("folder"))
        try:
            found = course(folder, **given)
        except EdgeKDError as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        place = folder / f"found-{given.get('stop', 0)}-{world().rank}.json"
        place.write_text(json.dumps(found), "utf-8")
    collective.leave()


if __name__ == "__main__":
    main()
