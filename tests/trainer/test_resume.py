"""Resume: a training that was cut off ends with the very bits of one that was not."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgekd.errors import CrewError, UsageError
from edgekd.loading import Splits, loaders
from edgekd.loading.stream import StreamLoader
from edgekd.schema import CHECKPOINT
from edgekd.trainer import RESULT, Interrupted, Task, Together, Trained, Trainer, checkpoint
from tests.keys import check_keys
from tests.trainer.conftest import DATA

MakeTask = Callable[..., Task]

KINDS: dict[str, dict[str, Any]] = {
    "momentum": {"momentum": 0.9, "weight_decay": 1e-3},
    "ema": {"ema": 0.8},
    "adapter": {"method": "ce + 0.5*kd + fitnet", "teacher": "resnet14"},
    "ramp": {"method": "0..1*ce"},
    "adamw": {"optimizer": "adamw", "lr": 1e-3, "clip": 0.5},
    "cut between checkpoints": {"checkpoint_minutes": 1.0},
}


class KilledError(Exception):
    """Nothing after it is done, as after ``kill -9``."""


def test_generators_of_gpus_that_are_not_there_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states, known = [torch.tensor([number]) for number in range(4)], list[torch.Tensor]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", known.extend)
    checkpoint.set_generators({"cpu": torch.get_rng_state(), "cuda": states})
    assert known == states[:2]
    checkpoint.set_generators({"cpu": torch.get_rng_state(), "cuda": []})
    assert known == states[:2]


def killed_at(step: int) -> Callable[[int, int, str], None]:
    def tell(done: int, total: int, note: str) -> None:
        if done >= step:
            raise KilledError

    return tell


def state(trained: Trained) -> dict[str, torch.Tensor]:
    return dict(trained.model.state_dict())


def assert_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert list(one) == list(two)
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def metrics(task: Task) -> list[dict[str, Any]]:
    """What was written, but for the speed."""
    lines = (task.folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "images_per_s"} for line in lines]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [2, 5, 8, 15])
def test_killed_and_started_again(kind: str, step: int, task: MakeTask) -> None:
    settings = {"checkpoint_minutes": 0.0, **KINDS[kind]}
    whole = task(folder="whole", **settings)
    expected = Trainer(whole).run()
    with pytest.raises(KilledError):
        Trainer(task(folder="cut", **settings), killed_at(step)).run()
    cut = task(folder="cut", **settings)
    assert_equal(state(Trainer(cut).run()), state(expected))
    assert metrics(cut) == metrics(whole)
    assert torch.equal(
        torch.tensor(metrics(cut)[-1]["validation"]["top1"]),
        torch.tensor(expected.validation.top1),
    )


def test_the_generators_are_part_of_the_state(task: MakeTask) -> None:
    def with_dropout(folder: str) -> Task:
        made = task(folder=folder, checkpoint_minutes=0.0)
        head = made.student.model.get_submodule("head")
        head.register_module("drop", nn.Dropout(0.5))
        return made

    expected = Trainer(with_dropout("whole")).run()
    with pytest.raises(KilledError):
        Trainer(with_dropout("cut"), killed_at(8)).run()
    torch.manual_seed(99)
    assert_equal(state(Trainer(with_dropout("cut")).run()), state(expected))


@pytest.mark.parametrize("augment", ["shift", "timm"])
def test_streamed_images(augment: str, splits: Splits, task: MakeTask) -> None:
    """Who decodes as it goes draws from generators of its own, and not from the network's."""
    data = replace(DATA, memory_gb=1e-9, workers=0, augment=augment)

    def streamed(folder: str) -> Task:
        made = task(folder=folder, checkpoint_minutes=0.0)
        made.student.model.get_submodule("head").register_module("drop", nn.Dropout(0.5))
        stream = loaders(
            replace(splits, augment=augment), made.student.preprocess, data, made.train
        )
        assert isinstance(stream.train, StreamLoader)
        return replace(made, loaders=stream)

    expected = Trainer(streamed("whole")).run()
    with pytest.raises(KilledError):
        Trainer(streamed("cut"), killed_at(8)).run()
    assert_equal(state(Trainer(streamed("cut")).run()), state(expected))


@pytest.mark.parametrize("in_lockstep", [False, True])
def test_a_decoding_process_that_is_killed_costs_no_step(
    in_lockstep: bool, splits: Splits, task: MakeTask
) -> None:
    data = replace(DATA, memory_gb=1e-9, workers=1)
    killed: list[int] = []

    def streamed(folder: str) -> Task:
        made = task(folder=folder, checkpoint_minutes=60.0)
        return replace(made, loaders=loaders(splits, made.student.preprocess, data, made.train))

    def run(made: Task, tell: Callable[[int, int, str], None]) -> Any:
        return Together([made], [tell]).run()[0] if in_lockstep else Trainer(made, tell).run()

    cut = streamed("cut")

    def kill(done: int, total: int, note: str) -> None:
        stream = cut.loaders.train
        assert isinstance(stream, StreamLoader)
        if done >= 6 and not killed:
            killed.extend(stream.processes)
            os.kill(killed[0], signal.SIGKILL)

    expected = run(streamed("whole"), lambda *news: None)
    with pytest.raises(CrewError, match=r"ended by signal 9; .* goes on where it was saved last"):
        run(cut, kill)
    assert torch.load(cut.folder / checkpoint.NAME, weights_only=True)["step"] >= 6
    assert_equal(state(run(streamed("cut"), lambda *news: None)), state(expected))


def test_adapters_are_in_the_checkpoint_and_not_in_the_student(task: MakeTask) -> None:
    made = task("ce + fitnet", teacher="resnet14", checkpoint_minutes=0.0)
    trainer = Trainer(made)
    before = {n: p.detach().clone() for n, p in made.method.named_parameters()}
    trained = trainer.run()
    assert list(before) == ["terms.fitnet.adapter.weight", "terms.fitnet.adapter.bias"]
    assert not any(torch.equal(p, before[n]) for n, p in made.method.named_parameters())
    saved = torch.load(made.folder / checkpoint.NAME, weights_only=True)["learner"]
    for name, value in made.method.named_parameters():
        assert torch.equal(saved[f"method.{name}"], value)
    assert not any("adapter" in name for name in trained.model.state_dict())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_stops(
    number: signal.Signals, task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two lines of metrics as well: the sums of the next one are part of the state."""
    settings = {"ema": 0.8, "checkpoint_minutes": 60.0, "log_steps": 4}
    whole = task(folder="whole", **settings)
    expected = Trainer(whole).run()
    cut = task(folder="cut", **settings)
    steps: list[int] = []

    def constrain() -> None:
        steps.append(1)
        if len(steps) == 7:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(cut.method, "constrain", constrain)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stopped:
        Trainer(cut).run()
    assert stopped.value.args == (number,)
    assert signal.getsignal(number) is before
    assert torch.load(cut.folder / checkpoint.NAME, weights_only=True)["step"] == 7
    assert metrics(cut)[-1]["step"] == 5
    again = task(folder="cut", **settings)
    assert_equal(state(Trainer(again).run()), state(expected))
    assert metrics(again) == metrics(whole)


def test_a_signal_in_the_last_step_is_not_lost(task: MakeTask) -> None:
    def tell(done: int, total: int, note: str) -> None:
        if done == total:
            os.kill(os.getpid(), signal.SIGTERM)

    made = task()
    with pytest.raises(KeyboardInterrupt) as stopped:
        Trainer(made, tell).run()
    assert stopped.value.args == (signal.SIGTERM,)
    assert Trainer(made).run().facts["steps"] == 15


def test_a_second_signal_does_not_wait(task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    made = task(checkpoint_minutes=60.0)

    def constrain() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(made.method, "constrain", constrain)
    with pytest.raises(KeyboardInterrupt) as stopped:
        Trainer(made).run()
    assert not isinstance(stopped.value, Interrupted)
    assert not (made.folder / checkpoint.NAME).exists()


def test_a_line_cut_in_half_is_written_again(task: MakeTask) -> None:
    settings = {"checkpoint_minutes": 0.0}
    whole = task(folder="whole", **settings)
    Trainer(whole).run()
    cut = task(folder="cut", **settings)
    with pytest.raises(KilledError):
        Trainer(cut, killed_at(8)).run()
    with (cut.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "epo')
    Trainer(task(folder="cut", **settings)).run()
    assert metrics(cut) == metrics(whole)


def test_killed_after_the_last_checkpoint(task: MakeTask) -> None:
    """Nothing is left to train: the result is made once more, and no line is written twice."""
    one = task()
    expected = Trainer(one).run()
    lines = metrics(one)
    again = Trainer(task()).run()
    assert_equal(state(again), state(expected))
    assert metrics(one) == lines
    assert again.validation.to_dict() == expected.validation.to_dict()
    assert again.facts["steps"] == expected.facts["steps"]
    assert again.facts["seconds"] >= expected.facts["seconds"]


def test_a_checkpoint_is_replaced_whole(task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    made = task(checkpoint_minutes=0.0)
    with pytest.raises(KilledError):
        Trainer(made, killed_at(4)).run()
    before = (made.folder / checkpoint.NAME).read_bytes()

    def half(content: object, file: Any) -> None:
        file.write(b"half")
        raise KilledError

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KilledError):
        Trainer(task(checkpoint_minutes=0.0)).run()
    assert (made.folder / checkpoint.NAME).read_bytes() == before
    assert sorted(file.name for file in made.folder.iterdir()) == [
        checkpoint.NAME,
        "metrics.jsonl",
    ]


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("not a checkpoint")


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def _tensor(path: Path) -> None:
    torch.save(torch.zeros(3), path)


def _newer(path: Path) -> None:
    found = torch.load(path, weights_only=True)
    torch.save({**found, "version": 99}, path)


def _other(path: Path) -> None:
    found = torch.load(path, weights_only=True)
    torch.save({**found, "fingerprint": "other"}, path)


DAMAGE = {
    "empty": (_empty, "cannot be read; start again with --restart"),
    "text": (_text, "cannot be read; start again with --restart"),
    "truncated": (_truncated, "cannot be read; start again with --restart"),
    "tensor": (_tensor, "has schema None; this edgekd reads 1. Start again with --restart"),
    "newer": (
        _newer,
        "has schema 99; this edgekd reads 1. Update edgekd, or start again with --rest",
    ),
    "other": (_other, "an unfinished training of another recipe .* Choose another --output"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_checkpoint_that_cannot_be_gone_on_with(kind: str, task: MakeTask) -> None:
    damage, message = DAMAGE[kind]
    made = task(checkpoint_minutes=0.0)
    with pytest.raises(KilledError):
        Trainer(made, killed_at(4)).run()
    check_keys(CHECKPOINT, torch.load(made.folder / checkpoint.NAME, weights_only=True))
    damage(made.folder / checkpoint.NAME)
    with pytest.raises(UsageError, match=message):
        Trainer(task(checkpoint_minutes=0.0))


@pytest.mark.timeout(20)
def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / checkpoint.NAME)
    assert checkpoint.fingerprint_of(tmp_path / checkpoint.NAME) is None


def test_the_last_epoch_is_kept_beside_the_checkpoint(task: MakeTask) -> None:
    made = task(checkpoint_minutes=60.0)
    with pytest.raises(KilledError):
        Trainer(made, killed_at(8)).run()
    assert sorted(file.name for file in made.folder.iterdir()) == ["metrics.jsonl", RESULT]
