"""Together: students in lockstep end with the very bits of trainings of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgekd.errors import DivergedError
from edgekd.loading import Splits, loaders
from edgekd.methods import Method
from edgekd.models import Backbone, build
from edgekd.recipe import Network
from edgekd.trainer import Interrupted, Memo, Task, Together, Trained, Trainer
from tests.trainer.conftest import DATA, MakeTask
from tests.trainer.test_resume import KilledError, assert_equal, killed_at, metrics, state

METHODS = {
    "alone": "ce",
    "logits": "ce + 0.9*kd",
    "maps": "ce + 0.1*fitnet",
    "masks": "ce + rtk",
    "draws": "ce + 0.1*diffkd",
    "studies": "ce + mgd",
}
"""Two with an adapter, two that draw at random, one that looks at nothing of the teacher's."""


def quiet(done: int, total: int, note: str) -> None:
    """Who is told and does nothing."""


def with_dropout(task: Task) -> Task:
    task.student.model.get_submodule("head").register_module("drop", nn.Dropout(0.5))
    return task


@pytest.fixture
def seat(task: MakeTask, network: Callable[..., Backbone]) -> Callable[..., list[Task]]:
    """Tasks of several methods, with dropout, one folder each."""
    teacher = network("resnet14", seed=1)  # one for all

    def make(prefix: str, names: Sequence[str] = tuple(METHODS), **settings: Any) -> list[Task]:
        return [
            replace(with_dropout(task(METHODS[n], f"{prefix}-{n}", **settings)), teacher=teacher)
            for n in names
        ]

    return make


@pytest.fixture
def apart(seat: Callable[..., list[Task]]) -> Callable[..., list[Trained]]:
    def train(*names: str, **settings: Any) -> list[Trained]:
        return [Trainer(made).run() for made in seat("apart", names or tuple(METHODS), **settings)]

    return train


def together(tasks: Sequence[Task], *tells: Callable[[int, int, str], None]) -> Any:
    return Together(tasks, tells or [quiet] * len(tasks)).run()


def test_the_same_bits_as_apart(seat: Any, apart: Any) -> None:
    tasks = seat("one", epochs=2)
    found, expected = together(tasks), apart(epochs=2)
    for one, other in zip(found, expected, strict=True):
        assert_equal(state(one), state(other))
        assert one.validation.to_dict() == other.validation.to_dict()
    for task, alike in zip(tasks, seat("apart", epochs=2), strict=True):
        assert metrics(task) == metrics(alike)


def test_seeds_that_see_the_same_batches_train_together(seat: Any) -> None:
    """They differ in what they draw: first weights, dropout and the noise of a method."""

    def seeds(prefix: str) -> list[Task]:
        one = seat(f"{prefix}-0", ("logits", "draws"), epochs=1)
        two = seat(f"{prefix}-1", ("logits", "draws"), epochs=1, seed=1)
        return [*one, *(replace(task, loaders=one[0].loaders) for task in two)]

    found = together(seeds("one"))
    expected = [Trainer(made).run() for made in seeds("apart")]
    for one, other in zip(found, expected, strict=True):
        assert_equal(state(one), state(other))
    assert {trained.facts["together"]["students"] for trained in found} == {4}
    zero, one = (next(iter(state(trained).values())) for trained in found[::2])
    assert not torch.equal(zero, one)


def test_of_networks_that_timm_makes(splits: Splits, task: MakeTask) -> None:
    """With more asked of it, the teacher computes its logits another way: the same ones."""
    data = replace(DATA, size=32)

    def of(method: str, folder: str) -> Task:
        torch.manual_seed(0)
        student = build(Network("test_byobnet"), splits.labels, 32)
        torch.manual_seed(1)
        teacher = build(Network("test_vit"), splits.labels, 160)
        made = task(method, folder, epochs=1)
        loaded = loaders(splits, student.preprocess, data, made.train)
        return replace(made, student=student, teacher=teacher, loaders=loaded)

    texts = ("ce + kd", "ce + vkd")
    found = together([of(text, f"t{i}") for i, text in enumerate(texts)])
    expected = [Trainer(of(text, f"a{i}")).run() for i, text in enumerate(texts)]
    for one, other in zip(found, expected, strict=True):
        assert_equal(state(one), state(other))


def test_the_teacher_is_asked_once_a_batch(seat: Any) -> None:
    tasks = seat("one", ("alone", "logits", "maps"), epochs=1)
    asked: list[int] = []
    ready = Together(tasks, [quiet] * len(tasks))
    teacher = tasks[0].teacher.model
    teacher.register_forward_pre_hook(lambda module, given: asked.append(1))
    teacher.forward_intermediates = _counted(teacher.forward_intermediates, asked)
    ready.run()
    assert len(asked) == len(tasks[0].loaders.train)


def test_what_the_teacher_said_before_is_remembered_for_all(
    seat: Any, apart: Any, tmp_path: Path
) -> None:
    """Cold, and hot: the same bits."""

    def remembered(prefix: str, names: Sequence[str] = ("alone", "logits")) -> list[Task]:
        memo = Memo(tmp_path / "memo", lambda: "0" * 32, 10**8)
        return [replace(task, memo=memo) for task in seat(prefix, names)]

    expected, shares = apart("alone", "logits"), []
    for prefix in ("cold", "hot"):
        found = together(remembered(prefix))
        for one, other in zip(found, expected, strict=True):
            assert_equal(state(one), state(other))
        shares.append(found[1].facts["together"]["teacher_hits"])
    assert shares[0] < 0.5
    assert shares[1] == 1
    said: list[str] = []
    tasks = remembered("maps", ("logits", "maps"))
    Together(tasks, [quiet, quiet], said.append).run()
    assert said[0] == "teacher: its answers are not kept: the method looks at stages, too"
    assert [text.partition(":")[0] for text in said] == ["teacher", "memory"]  # once for both


def _counted(ask: Callable[..., Any], asked: list[int]) -> Callable[..., Any]:
    def counting(*given: Any, **options: Any) -> Any:
        asked.append(1)
        return ask(*given, **options)

    return counting


def test_a_step_s_time_is_its_own(seat: Any) -> None:
    found = together(seat("one", ("alone", "logits"), epochs=1))
    noted = [trained.facts["together"] for trained in found]
    assert {facts["students"] for facts in noted} == {2}
    again = together(seat("two", ("logits", "alone"), epochs=1))
    sittings = [trained.facts["together"]["sitting"] for trained in (*found, *again)]
    assert sittings[0] == sittings[1] != sittings[2] == sittings[3]
    assert noted[0]["teacher_ms_per_step"] == noted[1]["teacher_ms_per_step"] > 0
    assert all(facts["ms_per_step"] > 0 for facts in noted)
    assert all(0 < trained.facts["seconds"] < 60 for trained in found)


STEPS = [pytest.param(step, marks=pytest.mark.slow) for step in (2, 5, 8, 15)]


@pytest.mark.parametrize("step", STEPS)
def test_killed_and_started_again(step: int, seat: Any, apart: Any) -> None:
    """The second one's kill leaves the first ahead of it, and those after it behind."""
    names = ("alone", "logits", "draws")
    expected = apart(*names, checkpoint_minutes=0.0)
    with pytest.raises(KilledError):
        together(seat("cut", names, checkpoint_minutes=0.0), quiet, killed_at(step), quiet)
    tasks = seat("cut", names, checkpoint_minutes=0.0)
    for one, other in zip(together(tasks), expected, strict=True):
        assert_equal(state(one), state(other))
    for task, alike in zip(tasks, seat("apart", names), strict=True):
        assert metrics(task) == metrics(alike)


def test_those_ahead_wait_for_the_slowest(seat: Any, apart: Any) -> None:
    """One was finished by itself, one cut off in the middle, and one never begun."""
    names = ("logits", "draws", "maps")
    settings = {"checkpoint_minutes": 0.0}
    expected = apart(*names, **settings)
    tasks = seat("cut", names, **settings)
    Trainer(tasks[0]).run()
    with pytest.raises(KilledError):
        Trainer(tasks[1], killed_at(8)).run()
    told: list[list[int]] = [[], [], []]
    tells = [lambda done, total, note, own=own: own.append(done) for own in told]
    found = together(seat("cut", names, **settings), *tells)
    for one, other in zip(found, expected, strict=True):
        assert_equal(state(one), state(other))
    assert told[0] == []
    assert [told[1][0], told[2][0]] == [8, 2]


def test_ctrl_c_saves_all(seat: Any, apart: Any) -> None:
    names = ("alone", "draws")

    def stop(done: int, total: int, note: str) -> None:
        if done == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        together(seat("cut", names, epochs=2), stop, quiet)
    tasks = seat("cut", names, epochs=2)
    assert all((made.folder / "checkpoint.pt").is_file() for made in tasks)
    for one, other in zip(together(tasks), apart(*names, epochs=2), strict=True):
        assert_equal(state(one), state(other))


def test_who_diverges_is_left_behind(seat: Any, apart: Any) -> None:
    tasks = seat("one", ("logits", "alone", "maps"))
    with torch.no_grad():  # its loss is no number from the first step on
        next(tasks[1].student.model.parameters()).fill_(float("nan"))
    found = together(tasks)
    assert isinstance(found[1], DivergedError)
    assert "no longer finite" in str(found[1])
    for one, other in zip((found[0], found[2]), apart("logits", "maps"), strict=True):
        assert_equal(state(one), state(other))


def test_who_learned_nothing_of_the_teacher_is_left_behind(
    seat: Any, apart: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def study(method: Method, *given: Any) -> None:
        if "fitnet" in method.named:
            raise DivergedError("what it learned is not finite.")

    monkeypatch.setattr("edgekd.trainer.engine.studying.study", study)
    found = together(seat("one", ("maps", "logits"), epochs=1))
    assert isinstance(found[0], DivergedError)
    assert_equal(state(found[1]), state(*apart("logits", epochs=1)))
    (only,) = together(seat("all", ("maps",), epochs=1))
    assert isinstance(only, DivergedError)


def test_what_diverged_and_what_to_do_are_told_apart(seat: Any) -> None:
    (error,) = together(seat("one", ("alone",), lr=1e9, warmup_epochs=0.0))
    assert error.what.startswith("the ")
    assert "--restart" not in error.what
    assert error.advice.endswith("start again with --restart.")
    assert str(error) == f"{error.what} {error.advice}"
