"""Training with the rounding of int8: resumed to the bit, judged both ways, and left bare."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from edgekd.errors import DivergedError, RecipeError
from edgekd.models.quantised import LAYERS, SCHEMES, Scheme
from edgekd.recipe import Train, recipe_from
from edgekd.sections import QUANTISED
from edgekd.trainer import RESULT, Task, Trainer, checkpoint, evaluate

MakeTask = Callable[..., Task]
ROUNDED: dict[str, Any] = {
    "method": "ce + kd",
    "teacher": "resnet14",
    "quantise": "int8",
    "checkpoint_minutes": 0.0,
}
CPU = torch.device("cpu")


class KilledError(Exception):
    """As after ``kill -9``."""


def killed_at(step: int) -> Callable[[int, int, str], None]:
    def tell(done: int, total: int, note: str) -> None:
        if done >= step:
            raise KilledError

    return tell


def lines(task: Task) -> list[dict[str, Any]]:
    found = (task.folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "images_per_s"} for line in found]


def ranges(task: Task) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(task.folder / checkpoint.NAME, weights_only=True)[
        "ranges"
    ]
    return found


def bits(count: int) -> Scheme:
    return Scheme(low=0, high=2**count - 1, weights=2 ** (count - 1) - 1)


@pytest.mark.parametrize(("step", "average"), [(2, 0.8), (8, 0.0), (13, 0.8)])
def test_killed_and_started_again(step: int, average: float, task: MakeTask) -> None:
    """While the ranges move, and after they stand still from step 12 on."""
    settings = {**ROUNDED, "ema": average}
    whole = task(folder="whole", **settings)
    expected = Trainer(whole).run()
    with pytest.raises(KilledError):
        Trainer(task(folder="cut", **settings), killed_at(step)).run()
    cut = task(folder="cut", **settings)
    found = Trainer(cut).run()
    one, two = found.model.state_dict(), expected.model.state_dict()
    assert [name for name in two if not torch.equal(one[name], two[name])] == []
    assert lines(cut) == lines(whole)
    assert found.facts["simulated"] == expected.facts["simulated"]
    assert ranges(cut).keys() == ranges(whole).keys()
    assert all(torch.equal(value, ranges(whole)[name]) for name, value in ranges(cut).items())


def test_the_ranges_are_in_the_checkpoint_and_not_in_the_student(task: MakeTask) -> None:
    made, plain = task(**ROUNDED), task(folder="plain", checkpoint_minutes=0.0)
    trained = Trainer(made).run()
    layers = [n for n, m in plain.student.model.named_modules() if isinstance(m, LAYERS)]
    assert list(ranges(made)) == layers
    names = list(plain.student.model.state_dict())
    assert list(trained.model.state_dict()) == names
    assert sorted(load_file(made.folder / RESULT)) == sorted(names)
    saved = torch.load(made.folder / checkpoint.NAME, weights_only=True)
    assert [n.removeprefix("tap.model.") for n in saved["learner"] if "tap" in n] == names
    Trainer(plain).run()
    assert "ranges" not in torch.load(plain.folder / checkpoint.NAME, weights_only=True)


@pytest.mark.parametrize("average", [0.0, 0.8])
def test_what_is_left_is_bare(average: float, task: MakeTask) -> None:
    made = task(**ROUNDED, ema=average)
    trained = Trainer(made).run()
    for model in (trained.model, made.student.model):
        assert not any("forward" in vars(module) for module in model.modules())
    again = evaluate(trained.model, made.loaders.validation, CPU)
    assert again.to_dict() == trained.validation.to_dict()


def test_scores_are_float_or_said_to_be_simulated(
    task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCHEMES, "int8", bits(2))
    told: list[str] = []
    made = task(**ROUNDED)
    trained = Trainer(made, lambda done, total, note: told.append(note)).run()
    judged = [line for line in lines(made) if "validation" in line]
    assert [set(line) for line in judged] == [{"step", "epoch", "validation", "simulated"}] * 3
    last = judged[-1]
    assert last["validation"] == trained.validation.to_dict()
    assert trained.facts["quantise"] == "int8"
    assert trained.facts["simulated"] == {"validation": last["simulated"]}
    assert last["simulated"] != last["validation"]
    figures = f"validation {trained.validation.top1:.1%}, simulated {last['simulated']['top1']:.1%}"
    assert told[-1] == f"epoch 3: {figures}"


def test_without_it_nothing_is_said_to_be_simulated(task: MakeTask) -> None:
    told: list[str] = []
    made = task()
    trained = Trainer(made, lambda done, total, note: told.append(note)).run()
    assert "simulated" not in (made.folder / "metrics.jsonl").read_text() + str(told)
    assert not {"simulated", "quantise"} & set(trained.facts)


def test_ranges_stand_still_at_the_end(task: MakeTask) -> None:
    made = task(**ROUNDED)
    trainer = Trainer(made)
    seen: list[Tensor] = []
    for epoch in range(3):
        for batch in made.loaders.train.epoch(epoch):
            trainer.advance(batch)
            simulation = trainer._engine.rounding.simulation
            assert simulation is not None
            seen.append(simulation.state_dict()["head.fc"].clone())
    moved = [not torch.equal(a, b) for a, b in pairwise(seen)]
    assert moved == [True] * 11 + [False] * 3  # of 15 steps, the first 12 are looked at


def test_the_student_alone_is_rounded(task: MakeTask) -> None:
    """Neither its teacher nor what a method learns beside it, which no file will have."""
    made = task(**{**ROUNDED, "method": "ce + kd + fitnet"})
    trainer = Trainer(made)
    engine = trainer._engine
    assert engine.teacher is not None
    beside: list[nn.Module] = [*engine.teacher.modules(), *made.method.modules()]
    assert not any("forward" in vars(module) for module in beside)
    rounded = [m for m in made.student.model.modules() if "forward" in vars(m)]
    assert rounded == [m for m in made.student.model.modules() if isinstance(m, LAYERS)]


def test_simulated_answers_that_are_no_numbers(
    task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = task(**ROUNDED)
    trainer = Trainer(made)
    simulation = trainer._engine.rounding.simulation
    assert simulation is not None
    simulation.load_state_dict({"head.fc": torch.tensor([-1.0, float("nan"), 1.0])})
    monkeypatch.setattr(type(simulation), "_observe", lambda *given: None)
    with pytest.raises(DivergedError, match="no longer finite"):
        trainer.run()


def test_tuning_makes_a_network_bear_few_bits(
    task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trained network that three integers ruin is tuned to do without the others."""
    monkeypatch.setitem(SCHEMES, "int8", bits(2))
    teacher = Trainer(task(folder="float", epochs=12, lr=0.1)).run().model
    settings = {**ROUNDED, "epochs": 6, "lr": 0.01, "warmup_epochs": 0.0}
    made = task(folder="tuned", **settings)
    made.student.model.load_state_dict(teacher.state_dict())
    assert made.teacher is not None
    trainer = Trainer(_taught_by_itself(made, teacher))
    for batch in made.loaders.train.epoch(0):  # only to see the ranges: nothing is learned here
        made.student.model(batch.image)
    made.student.model.load_state_dict(teacher.state_dict())
    before = trainer._judge()
    after = trainer.run()
    simulated = after.facts["simulated"]["validation"]["top1"]
    assert before["validation"].top1 > 0.7
    assert before["simulated"].top1 < 0.4
    assert simulated > before["simulated"].top1 + 0.25


def _taught_by_itself(task: Task, teacher: nn.Module) -> Task:
    assert task.teacher is not None
    shown = {**vars(task.student), "model": teacher}
    return Task(**{**vars(task), "teacher": type(task.teacher)(**shown)})


# ---- the recipe ----


@pytest.mark.parametrize("name", QUANTISED)
def test_a_recipe_may_ask_for_it(name: str) -> None:
    recipe = recipe_from({}, [f"train.quantise={name}"])
    assert recipe.train.quantise == name
    assert recipe_from(recipe.to_dict()) == recipe


@pytest.mark.parametrize("precision", ["bf16", "fp16", "auto"])
def test_rounding_twice_is_refused(precision: str) -> None:
    """bf16 has no more digits than int8: what a network would learn to bear is that."""
    with pytest.raises(RecipeError, match=r"quantise is 'int8'; expected one .* precision fp32"):
        Train(quantise="int8", precision=precision)


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"quantise is 'int4'; expected .*int8-symmetric"):
        Train(quantise="int4")
