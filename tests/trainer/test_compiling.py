"""A compiled step is trusted only as far as it computes what the plain one does.

What compiles is made up here: a graph that is run as it was recorded, or one with an error in it.
PyTorch's own compiler takes minutes on a busy machine, and its tests are slow ones.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from edgekd.errors import RecipeError, UsageError
from edgekd.recipe import Train
from edgekd.trainer import RESULT, Interrupted, Task, Trainer, compiling
from edgekd.trainer.compiling import Allowed, apart

MakeTask = Callable[..., Task]


class Recorded:
    """Runs graphs as they were recorded, and counts them; what they give may be made wrong."""

    def __init__(self, wrong: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> None:
        self.graphs, self.runs, self._wrong = 0, 0, wrong

    def __call__(self, graph: Any, example: Any) -> Callable[..., Any]:
        self.graphs += 1

        def run(*given: Any) -> Any:
            self.runs += 1
            return tuple(self._wrong(out) for out in graph.forward(*given))

        return run


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    backend = Recorded()
    monkeypatch.setattr(compiling, "BACKEND", backend)
    return backend


def test_a_compiled_training_is_the_plain_one(task: MakeTask, recorded: Recorded) -> None:
    """Graphs that are run as recorded compute the very bits; also after a stop in the middle."""
    habits: dict[str, Any] = {"method": "ce + kd", "teacher": "resnet8", "ema": 0.9, "epochs": 2}
    plain = Trainer(task(folder="plain", **habits)).run()
    said: list[str] = []

    def stop(done: int, total: int, note: str) -> None:
        if done == 6:
            cut._ears.number = signal.SIGINT

    made = task(folder="cut", compile=True, **habits)
    cut = Trainer(made, stop, said.append)
    assert recorded.graphs == 2  # the student's and the teacher's
    assert recorded.runs == 2  # the proof, and nothing of it is left
    assert any(text.startswith("compiled in ") and "loss 0.0e+00" in text for text in said)
    with pytest.raises(Interrupted):
        cut.run()
    done = cut.step
    assert recorded.runs == 2 + 2 * done
    rest = Trainer(task(folder="cut", compile=True, **habits)).run()
    assert recorded.runs == 2 + 2 + 2 * 10
    assert 0 < done < 10
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[name]), name
    assert load_file(made.folder / RESULT).keys() == plain.model.state_dict().keys()


def test_peers_are_compiled_too(
    task: MakeTask, network: Callable[..., Any], recorded: Recorded
) -> None:
    plain = Trainer(replace(task("ce + kd", "plain", epochs=1), peer=network(seed=3))).run()
    both = Trainer(replace(task("ce + kd", "both", compile=True, epochs=1), peer=network(seed=3)))
    assert recorded.runs == 2
    found = both.run().model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in plain.model.state_dict().items())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda out: out * 1.001,
        lambda out: out.detach() + out - out,  # the loss is right, its gradient is not there
        lambda out: out * float("nan"),
    ],
)
def test_a_graph_that_computes_something_else_is_refused(
    wrong: Callable[[Tensor], Tensor], task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "BACKEND", Recorded(wrong))
    with pytest.raises(UsageError, match=r"computes something else: .*without train.compile"):
        Trainer(task("ce", compile=True))


def test_what_cannot_be_compiled_is_said(task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(graph: Any, example: Any) -> Any:
        raise RuntimeError("no compiler on this machine")

    monkeypatch.setattr(compiling, "BACKEND", refuse)
    with pytest.raises(UsageError, match=r"cannot be compiled here: .*no compiler on this machine"):
        Trainer(task("ce", compile=True))


def test_the_bound_is_of_each_parameter_and_of_the_loss() -> None:
    draw = torch.Generator().manual_seed(0)
    plain = {"loss": torch.tensor(2.0), "a": torch.randn(100, generator=draw), "b": torch.ones(3)}
    near = {name: value * (1 + 1e-6) for name, value in plain.items()}
    allowed = Allowed(plain, [near], "fp32")
    assert allowed.moved.loss == pytest.approx(1e-6, rel=0.2)
    assert apart(plain, near).gradient == pytest.approx(1e-6, rel=0.2)
    allowed.check(near)
    allowed.check({name: value * (1 - 4e-6) for name, value in plain.items()})
    for name, value, words in (
        ("loss", torch.tensor(2.0 + 1e-4), "the loss is"),
        ("loss", torch.tensor(float("nan")), "the loss is"),
        ("b", plain["b"] + 2e-4, "the gradient of b is"),
        ("a", -plain["a"], "the gradient as a whole is"),
    ):
        with pytest.raises(UsageError, match=words):
            allowed.check({**plain, name: value})
    coarse = Allowed(plain, [{name: 1.4 * value for name, value in plain.items()}], "bf16")
    coarse.check({name: 0.5 * value for name, value in plain.items()})
    with pytest.raises(UsageError, match="the gradient as a whole is"):  # as good as none at all
        coarse.check({**plain, "a": 0 * plain["a"], "b": 0 * plain["b"]})
    with pytest.raises(UsageError, match="only one of the two gives b a gradient"):
        allowed.check({name: value for name, value in plain.items() if name != "b"})


def test_rounding_and_compiling_exclude_each_other() -> None:
    with pytest.raises(RecipeError, match="compile is True; expected false where quantise rounds"):
        Train(quantise="int8", compile=True)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_torchs_own_compiler_is_within_the_bound(
    precision: str, task: MakeTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "inductor")
    habits = {"method": "ce + kd", "teacher": "resnet8", "precision": precision, "epochs": 1}
    made = task(folder="compiled", compile=True, **habits)
    plain, compiled = Trainer(task(folder="plain", **habits)).run(), Trainer(made).run()
    off = abs(plain.validation.loss - compiled.validation.loss)
    assert off < {"fp32": 1e-3, "bf16": 0.3}[precision] * plain.validation.loss
