"""What the memory, the negatives and the constant of contrastive distillation promise."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods.crd import CRD
from tests.methods.conftest import BATCH, TARGETS

REFERENCE = runpy.run_path(str(Path(__file__).parents[1] / "reference" / "crd.py"))


def embedded(width: int, seed: int) -> Features:
    noise = torch.randn(BATCH, width, generator=torch.Generator().manual_seed(seed))
    return Features(noise, noise)


STUDENT, TEACHER = embedded(8, 1), embedded(16, 2)


def crd(targets: Tensor = TARGETS, **options: Any) -> CRD:
    torch.manual_seed(0)
    made = CRD(**options)
    made.build(STUDENT, TEACHER, targets)
    return made


def ask(made: CRD, batch: Batch, student: Features = STUDENT) -> Any:
    torch.manual_seed(1)
    return made(student, TEACHER, batch)


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(0)


def test_negatives_are_images_of_all_other_classes_alike() -> None:
    targets = torch.tensor([2, 0, 4, 4, 0, 4, 2, 0, 4])  # nobody is of classes 1 and 3
    made = crd(targets)
    assert made.count == 5  # what the largest class has outside of it
    index = torch.arange(9).repeat(2000)
    drawn = made._drawn(index)
    assert (targets[drawn] != targets[index][:, None]).all()
    for i in range(9):
        others = (targets != targets[i]).nonzero().flatten()
        counts = drawn[index == i].flatten().bincount(minlength=9)
        share = counts[others] / counts.sum()
        assert torch.allclose(share, torch.full_like(share, 1 / len(others)), atol=0.02)


def test_there_are_as_many_negatives_as_asked_or_as_there_are() -> None:
    assert crd(negatives=7).count == 7
    assert crd(negatives=16384).count == 32  # of forty images, eight are of one's own class
    assert crd(negatives=3)._drawn(torch.arange(6)).shape == (6, 3)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_memory_of_the_images_seen_moves_and_no_other(momentum: float, batch: Batch) -> None:
    made = crd(momentum=momentum)
    before = made.teacher_side.memory.clone()
    ask(made, batch)
    after, v = made.teacher_side.memory, made.teacher_side(TEACHER.embedding)
    moved = F.normalize(momentum * before[batch.index] + (1 - momentum) * v, dim=1)
    assert torch.allclose(after[batch.index], moved, atol=1e-6)
    unseen = torch.ones(len(TARGETS), dtype=torch.bool)
    unseen[batch.index] = False
    assert torch.equal(after[unseen], before[unseen])
    assert not after.requires_grad


def test_nothing_is_remembered_in_evaluation(batch: Batch) -> None:
    made = crd()
    before = {key: value.clone() for key, value in made.state_dict().items()}
    ask(made.eval(), batch)
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())


def test_the_constant_is_that_of_the_first_batch_for_good(batch: Batch) -> None:
    made = crd().double()
    student, teacher = STUDENT.mapped(Tensor.double), TEACHER.mapped(Tensor.double)
    made(student, teacher, batch)
    frozen = made.student_side.log_z.clone()
    assert frozen.isfinite()
    learned = {key: value.clone().numpy() for key, value in made.state_dict().items()}
    second = replace(batch, index=torch.tensor([1, 2, 4, 6, 7, 8]))
    torch.manual_seed(1)
    found = float(made(student, teacher, second).detach())
    assert torch.equal(made.student_side.log_z, frozen)
    shown = [
        SimpleNamespace(embedding=seen.embedding.numpy())
        for seen in (student, teacher)
        if seen.embedding is not None
    ]
    plain = SimpleNamespace(target=second.target.numpy(), index=second.index.numpy())
    assert found == pytest.approx(REFERENCE["loss"](*shown, plain, learned), rel=1e-10)


def test_the_gradient_is_that_of_the_memory_as_it_was_when_asked(batch: Batch) -> None:
    gradients = []
    for training in (True, False):  # only in training does the memory change before it
        made = crd().train(training)
        ask(made, batch).backward()
        gradients.append([p.grad for p in made.parameters() if p.grad is not None])
    assert len(gradients[0]) == 4
    for trained, still in zip(*gradients, strict=True):
        assert torch.allclose(trained, still, atol=1e-6)


def test_a_student_that_can_be_told_by_its_teacher_loses_less(batch: Batch) -> None:
    made = crd(temperature=0.2)
    first = float(ask(made, batch).detach())
    step = torch.optim.SGD(made.parameters(), 0.1, momentum=0.9)
    for _ in range(60):
        step.zero_grad()
        loss = ask(made, batch)
        loss.backward()
        step.step()
    assert float(loss.detach()) < 0.5 * first
    s, t = made.student_side(STUDENT.embedding), made.teacher_side(TEACHER.embedding)
    assert torch.equal((s @ t.mT).argmax(1), torch.arange(BATCH))


def test_a_low_temperature_stays_finite(batch: Batch) -> None:
    made = crd(temperature=1e-3)
    loss = ask(made, batch)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


def test_what_is_remembered_goes_into_the_checkpoint(batch: Batch) -> None:
    made, other = crd(), crd()
    ask(made, batch)
    other.load_state_dict(made.state_dict())
    assert torch.equal(ask(other, batch), ask(made, batch))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": 0}, "negatives must be a whole number from 1 on, got 0"),
        ({"dim": 12.5}, "dim must be a whole number from 1 on, got 12.5"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0"),
        ({"temperature": float("nan")}, "temperature must be above 0, got nan"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CRD(**options)


def test_data_and_networks_it_cannot_serve_are_refused() -> None:
    with pytest.raises(ValueError, match="images of at least two classes, got 4 of 1; take a"):
        CRD().build(STUDENT, TEACHER, torch.tensor([3, 3, 3, 3]))
    with pytest.raises(ValueError, match="images of at least two classes, got 0 of 0; take a"):
        CRD().build(STUDENT, TEACHER, torch.tensor([], dtype=torch.int64))
    with pytest.raises(ValueError, match="expected embeddings of both networks"):
        CRD().build(STUDENT, Features(torch.zeros(2, 3)), TARGETS)
