"""Settings and trackers: refused by name before any data is loaded, never left out in silence."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from edgekd.errors import RecipeError, UsageError
from edgekd.recipe import Train
from edgekd.trainer import Task, Trainer, check, settings
from edgekd.trainer.optimising import _ways
from edgekd.trainer.settings import SCHEDULES

MakeTask = Callable[..., Task]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"optimizer": "sdg"}, r"train\.optimizer is 'sdg', which there is not\. Did you mean .*sgd"),
    ({"schedule": "cosin"}, r"train\.schedule is 'cosin', .* Did you mean cosine"),
    ({"schedule": "none"}, r"train\.schedule is 'none'.*cosine"),
    ({"trackers": ("tensorboard",)}, r"asks for tensorboard, which is not installed.*pip install"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_refused(wrong: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "get_available_trackers", list)
    with pytest.raises(RecipeError, match=message) as refused:
        check(replace(Train(precision="fp32"), **wrong))
    assert refused.value.key == f"train.{next(iter(wrong))}"


def test_a_precision_this_machine_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(asked: str) -> str:
        raise UsageError("none here")

    monkeypatch.setattr(settings, "resolve", refuse)
    with pytest.raises(RecipeError, match=r"^teach\.precision is 'fp16': none here$"):
        check(Train(precision="fp16"), "teach")


@pytest.mark.parametrize("name", ["sgd", "AdamW", "lion", "lookahead_adam"])
def test_optimisers_of_timm(name: str) -> None:
    check(Train(optimizer=name, precision="fp32"))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_moves_the_learning_rate(schedule: str, task: MakeTask) -> None:
    made = task(schedule=schedule, epochs=4, warmup_epochs=0.5)
    trainer = Trainer(made)
    seen = []
    for epoch in range(4):
        for batch in made.loaders.train.epoch(epoch):
            trainer.advance(batch)
            seen.append(trainer._engine.optimizer.param_groups[0]["lr"])
    assert seen[0] < max(seen) <= made.train.lr * 1.001


def test_an_optimiser_that_refuses(task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise ValueError("Invalid beta")

    monkeypatch.setattr("edgekd.trainer.optimising.create_optimizer_v2", refuse)
    with pytest.raises(UsageError, match=r"sgd refuses these settings: Invalid beta\. Change"):
        Trainer(task())


def test_tensorboard(task: MakeTask) -> None:
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed")
    made = task(trackers=("tensorboard",))
    check(made.train)
    Trainer(made).run()
    assert list(made.folder.rglob("events.out.tfevents*"))
    assert (made.folder / "metrics.jsonl").is_file()


def test_a_tracker_that_cannot_start(task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    class LoginError(Exception):
        pass

    def start(self: object, project: str) -> None:
        raise LoginError("run wandb login\nfirst")

    monkeypatch.setattr("edgekd.trainer.engine.Accelerator.init_trackers", start)
    monkeypatch.setattr("accelerate.accelerator.filter_trackers", lambda asked, folder: asked)
    with pytest.raises(UsageError, match=r"^wandb cannot start: run wandb login$"):
        Trainer(task(trackers=("wandb",)))


def test_a_gpu_updates_all_parameters_at_once_where_the_optimiser_can() -> None:
    here, there = torch.device("cpu"), torch.device("cuda")
    for name in ("sgd", "SGD", "lookahead_sgd", "momentum", "adam", "adamw"):
        assert _ways(name, there) == {"fused": True}
        assert _ways(name, here) == {"foreach": False}
    for name in ("lion", "lamb", "adagrad"):
        assert _ways(name, there) == _ways(name, here) == {}
