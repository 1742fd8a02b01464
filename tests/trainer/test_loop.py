"""The loop: what a step may do, what it must not, and what it leaves alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from edgekd.data import Batch
from edgekd.errors import DivergedError, UsageError
from edgekd.features import Features
from edgekd.methods import Term
from edgekd.models import Backbone
from edgekd.plugins import load
from edgekd.trainer import RESULT, Task, Together, Trained, Trainer, checkpoint
from edgekd.trainer.pace import Pace
from edgekd.trainer.precision import has_bf16

MakeTask = Callable[..., Task]
CE: type[Term] = load("method", "ce")
WAITS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "item"}
ASKS = ("item", "tolist", "cpu", "numpy", "__float__", "__bool__", "__int__")


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what makes the host wait for a number."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITS:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def waits(trainer: Trainer, task: Task, monkeypatch: pytest.MonkeyPatch, steps: int) -> list[str]:
    """What 50 steps, without the loader, waited for."""
    batches = _batches(task)
    ready = [next(batches) for _ in range(steps)]
    asked: list[str] = []
    with monkeypatch.context() as patch:
        for name in ASKS:
            patch.setattr(Tensor, name, _counted(name, getattr(Tensor, name), asked))
        found = Waits()
        with found:
            for batch in ready:
                trainer.advance(batch)
    return asked + found.found


def _counted(name: str, original: Any, asked: list[str]) -> Any:
    def call(self: Tensor, *args: Any, **options: Any) -> Any:
        asked.append(name)
        return original(self, *args, **options)

    return call


def _batches(task: Task) -> Iterator[Batch]:
    for epoch in count():
        yield from task.loaders.train.epoch(epoch)


HABITS: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": {
        "method": "ce + 0..1*kd + at + fitnet",
        "teacher": "resnet14",
        "ema": 0.9,
        "clip": 1.0,
    },
    "bf16": {"method": "ce + kd", "teacher": "resnet14", "precision": "bf16"},
}


@pytest.mark.parametrize("habit", HABITS)
def test_no_step_waits_for_a_number(
    habit: str, task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    if habit == "bf16" and not has_bf16():
        pytest.skip("bf16 is emulated here")
    made = task(**HABITS[habit])
    assert waits(Trainer(made), made, monkeypatch, 50) == []


@pytest.mark.parametrize("asks", [lambda x: x.item(), float, bool, lambda x: x.tolist()])
def test_the_count_sees_a_step_that_waits(
    asks: Callable[[Tensor], Any], task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = CE.forward

    def curious(self: Term, student: Features, teacher: Features, batch: Batch) -> Tensor:
        loss = original(self, student, teacher, batch)
        asks(loss.detach())
        return loss

    monkeypatch.setattr(CE, "forward", curious)
    made = task()
    assert len(waits(Trainer(made), made, monkeypatch, 2)) >= 2


def test_the_teacher_is_left_as_it_was(task: MakeTask) -> None:
    made = task("ce + kd + at + fitnet", teacher="resnet14")
    teacher = made.teacher
    assert teacher is not None
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    assert any("running_mean" in name for name in before)
    trainer = Trainer(made)
    shown = trainer._engine.ask(next(_batches(made)))
    for tensor in (shown.logits, *shown.stages):
        assert not tensor.requires_grad
        assert tensor.grad_fn is None
    trainer.run()
    after = teacher.model.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert not any(p.requires_grad or p.grad is not None for p in teacher.model.parameters())
    assert not teacher.model.training


def test_the_student_is_timms_own_network(task: MakeTask) -> None:
    made = task("ce + kd + fitnet", teacher="resnet14", ema=0.9)
    trained = Trainer(made).run()
    plain = timm.create_model("resnet8", num_classes=10)
    wanted = {name: value.shape for name, value in plain.state_dict().items()}
    assert {name: value.shape for name, value in trained.model.state_dict().items()} == wanted
    kept = load_file(made.folder / RESULT)
    assert {name: value.shape for name, value in kept.items()} == wanted


def test_the_moving_average_is_what_is_judged_and_kept(task: MakeTask) -> None:
    plain = Trainer(task(folder="plain")).run()
    made = task(folder="ema", ema=0.8)
    averaged = Trainer(made).run()
    weight = "head.fc.weight"
    assert not torch.equal(plain.model.state_dict()[weight], averaged.model.state_dict()[weight])
    assert torch.equal(load_file(made.folder / RESULT)[weight], averaged.model.state_dict()[weight])
    assert averaged.validation.loss != plain.validation.loss
    # what was trained is the same: the average only watches
    saved = torch.load(made.folder / checkpoint.NAME, weights_only=True)
    trained = saved["learner"][f"tap.model.{weight}"]
    assert torch.equal(trained, plain.model.state_dict()[weight])


def test_the_gradient_is_clipped(task: MakeTask) -> None:
    def moved(clip: float) -> float:
        options = {"momentum": 0.0, "weight_decay": 0.0, "warmup_epochs": 0.0, "lr": 1.0}
        made = task(folder=f"{clip}", clip=clip, optimizer="momentum", **options)
        before = [p.detach().clone() for p in made.student.model.parameters()]
        Trainer(made).advance(next(_batches(made)))
        pairs = zip(made.student.model.parameters(), before, strict=True)
        return math.sqrt(sum(float((new.detach() - old).square().sum()) for new, old in pairs))

    assert moved(clip=0.0) > 0.1
    assert moved(clip=0.01) == pytest.approx(0.01, rel=1e-3)


def test_bf16_finds_about_the_loss_of_fp32(task: MakeTask) -> None:
    if not has_bf16():
        pytest.skip("bf16 is emulated here")

    def losses(precision: str) -> list[float]:
        made = task("ce + kd", precision, teacher="resnet14", precision=precision)
        trainer = Trainer(made)
        for batch in made.loaders.train.epoch(0):
            trainer.advance(batch)
        weight = made.student.model.get_parameter("head.fc.weight")
        assert weight.dtype == torch.float32
        return [float(loss) for loss in trainer._engine.sums]

    full, half = losses("fp32"), losses("bf16")
    assert half != full
    assert half == pytest.approx(full, rel=0.03)
    assert losses("fp32") == full  # the process computes in full again


def test_the_seed_decides(task: MakeTask) -> None:
    def bits(folder: str, seed: int) -> dict[str, Tensor]:
        return dict(Trainer(task(folder=folder, seed=seed)).run().model.state_dict())

    one, same, other = bits("one", 0), bits("same", 0), bits("other", 1)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.fc.weight"], other["head.fc.weight"])


def test_training_learns_and_says_how_it_went(task: MakeTask) -> None:
    told: list[tuple[int, int, str]] = []
    made = task(epochs=8, lr=0.1)
    trained = Trainer(made, lambda *news: told.append(news)).run()
    assert trained.validation.top1 > 0.4
    assert trained.facts["epochs"] == 8
    assert trained.facts["steps"] == 40
    assert trained.facts["precision"] == "fp32"
    assert not trained.model.training
    assert [done for done, _, _ in told] == sorted({done for done, _, _ in told})
    assert told[-1][:2] == (40, 40)
    assert "validation" in told[-1][2]
    assert "images/s" in told[0][2]


def test_images_are_counted_and_not_the_batch_that_was_asked_for(
    task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    told = Pace.told

    def count(self: Pace, images: int, seconds: float) -> dict[str, int]:
        counted.append(images)
        return told(self, images, seconds)

    monkeypatch.setattr(Pace, "told", count)
    made, beside = (task(folder=name, epochs=3, batch_size=1000) for name in ("one", "two"))
    images = len(made.loaders.train.targets)
    Trainer(made).run()
    assert counted == [images] * 3
    counted.clear()
    Together([beside], [lambda *news: None]).run()
    assert sum(counted) == 6 * images  # of the student, and of who shows the batches


def test_no_epochs_or_no_batch(task: MakeTask) -> None:
    made = task()
    nothing = Task(**{**made.__dict__, "train": _without_epochs(made)})
    with pytest.raises(UsageError, match="nothing to train"):
        Trainer(nothing)


def _without_epochs(made: Task) -> Any:
    class Never:
        epochs = 0

    return Never()


# ---- what is no number ----


def kept_is_finite(folder: Path) -> None:
    """Whatever was kept is whole and made of numbers."""
    if (folder / checkpoint.NAME).is_file():
        saved = torch.load(folder / checkpoint.NAME, weights_only=True)
        for part in ("learner", "ema"):
            assert all(value.isfinite().all() for value in saved.get(part, {}).values())
    if (folder / RESULT).is_file():
        assert all(value.isfinite().all() for value in load_file(folder / RESULT).values())
    assert not list(folder.glob(".*"))


def test_a_learning_rate_far_too_high(task: MakeTask) -> None:
    made = task(lr=1e9, warmup_epochs=0.0, checkpoint_minutes=0.0, log_steps=1)
    with pytest.raises(DivergedError) as stopped:
        Trainer(made).run()
    said = str(stopped.value)
    assert "no longer finite at step" in said
    assert "lower the learning rate (now 1e+09) or clip the gradient (clip = 1)" in said
    assert "--restart" in said
    kept_is_finite(made.folder)


def test_a_term_that_turns_infinite(task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    original = CE.forward

    def wild(self: Term, student: Features, teacher: Features, batch: Batch) -> Tensor:
        loss = original(self, student, teacher, batch)
        return loss * math.inf if batch.progress > 0.5 else loss

    monkeypatch.setattr(CE, "forward", wild)
    made = task(checkpoint_minutes=0.0, clip=1.0)
    with pytest.raises(DivergedError, match=r"the loss ce is no longer finite at step \d+ of 15"):
        Trainer(made).run()
    assert (made.folder / checkpoint.NAME).is_file()
    kept_is_finite(made.folder)
    lines = (made.folder / "metrics.jsonl").read_text()
    assert "Infinity" not in lines
    assert "NaN" not in lines


@pytest.mark.parametrize("step", [5, 6])
def test_a_parameter_that_is_no_number_is_not_kept(
    step: int, task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step before an evaluation, or before a checkpoint, may be the one that broke it."""
    made = task(checkpoint_minutes=0.0, log_steps=2)
    trainer = Trainer(made)

    def spoil() -> None:
        if trainer._engine.step == step - 1:
            with torch.no_grad():
                made.student.model.get_parameter("head.fc.bias").fill_(math.nan)

    monkeypatch.setattr(made.method, "constrain", spoil)
    with pytest.raises(DivergedError, match=rf"a parameter is no longer finite at step {step}"):
        trainer.run()
    kept_is_finite(made.folder)


def test_diverged_before_anything_was_kept(task: MakeTask) -> None:
    made = task(lr=1e9, warmup_epochs=0.0, log_steps=1)
    with pytest.raises(DivergedError) as stopped:
        Trainer(made).run()
    assert "is kept" not in str(stopped.value)
    assert [file.name for file in made.folder.iterdir()] == ["metrics.jsonl"]


def test_weights_the_network_exempts_do_not_decay(task: MakeTask) -> None:
    made = task(weight_decay=0.1)
    made.student.model.no_weight_decay = lambda: {"head.fc.weight"}  # type: ignore[assignment]
    groups = Trainer(made)._engine.optimizer.param_groups
    exempt = made.student.model.get_parameter("head.fc.weight")
    decayed = next(p for p in made.student.model.parameters() if p.ndim == 4)
    for group in groups:
        held = [id(p) for p in group["params"]]
        assert id(exempt) not in held or group["weight_decay"] == 0
        assert id(decayed) not in held or group["weight_decay"] == 0.1


def test_a_trained_network_is_bare(task: MakeTask) -> None:
    trained: Trained = Trainer(task()).run()
    assert isinstance(trained.model, torch.nn.Module)
    assert not any("tap" in name for name, _ in trained.model.named_modules())
    backbone: Backbone = task().student
    assert type(trained.model) is type(backbone.model)
