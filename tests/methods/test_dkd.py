"""Decoupled distillation: its two parts make up plain distillation, and neither overflows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Method
from edgekd.methods.dkd import DKD
from tests.methods.conftest import TARGETS

Shown = Callable[..., Features]


@pytest.fixture
def student(shown: Shown) -> Features:
    return shown([(4, 2)], 1).mapped(Tensor.double)


@pytest.fixture
def teacher(shown: Shown) -> Features:
    return shown([(4, 2)], 2).mapped(Tensor.double)


def single(batch: Batch, i: int) -> Batch:
    return replace(batch, target=batch.target[i : i + 1])


def with_logits(features: Features, change: Callable[[Tensor], Tensor]) -> Features:
    return replace(features, logits=change(features.logits))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_with_the_teacher_s_doubt_for_beta_it_is_plain_distillation(
    temperature: float, student: Features, teacher: Features, batch: Batch
) -> None:
    """KL(p_t || p_s) = KL(b_t || b_s) + (1 - p_y of the teacher) KL(q_t || q_s), each image."""
    s, t = (F.log_softmax(f.logits / temperature, dim=1) for f in (student, teacher))
    for i, label in enumerate(batch.target):
        doubt = 1 - float(t[i, label].exp())
        made = DKD(alpha=1.0, beta=doubt, temperature=temperature)
        one = [replace(f, logits=f.logits[i : i + 1]) for f in (student, teacher)]
        plain = temperature**2 * F.kl_div(s[i], t[i], reduction="sum", log_target=True)
        assert torch.allclose(made(*one, single(batch, i)), plain, rtol=1e-12)


@pytest.mark.parametrize("other", ["student", "teacher"])
def test_what_is_said_about_the_others_ignores_the_label_s_logit(
    other: str, student: Features, teacher: Features, batch: Batch
) -> None:
    label = F.one_hot(batch.target, 5).double()
    both = {"student": student, "teacher": teacher}
    changed = both | {other: with_logits(both[other], lambda z: z + 3 * label)}
    for made, ignores in ((DKD(alpha=0.0), True), (DKD(beta=0.0), False)):
        same = torch.allclose(made(**changed, batch=batch), made(**both, batch=batch), rtol=1e-9)
        assert same is ignores


def test_a_teacher_and_a_student_sure_beyond_measure_give_a_finite_gradient(
    student: Features, teacher: Features, batch: Batch
) -> None:
    label = F.one_hot(batch.target, 5)
    sure = with_logits(teacher.float(), lambda z: z + 500 * label)
    z = (student.logits.float() + 300 * label).requires_grad_()
    loss = DKD(temperature=1.0)(replace(student, logits=z), sure, batch)
    loss.backward()
    assert loss.isfinite()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert z.grad.abs().sum() > 0  # of the other classes there is still something to learn


def test_standardised_it_does_not_matter_how_sure_anyone_is(
    student: Features, teacher: Features, batch: Batch
) -> None:
    surer = with_logits(teacher, lambda z: 3 * z + 7)
    for standardise in (True, False):
        made = DKD(standardise=standardise)
        first, second = made(student, teacher, batch), made(student, surer, batch)
        assert torch.allclose(first, second, rtol=1e-5) is standardise


@pytest.mark.parametrize("deviation", [0.0, 1e-6])
def test_standardised_logits_that_hardly_differ_ask_for_and_say_nothing(
    deviation: float, student: Features, teacher: Features, batch: Batch
) -> None:
    def gradient(student: Features, teacher: Features) -> Tensor:
        z = student.logits.clone().requires_grad_()
        DKD(standardise=True)(replace(student, logits=z), teacher, batch).backward()
        assert z.grad is not None
        return z.grad

    faint = with_logits(student, lambda z: z / z.std(1, keepdim=True) * deviation)
    assert not gradient(faint, teacher).any()
    found = gradient(teacher, faint)
    assert torch.equal(found, gradient(teacher, with_logits(faint, torch.zeros_like)))
    assert 0.1 < float(found.norm()) < 100


def test_standardised_two_classes_are_refused(student: Features) -> None:
    two = with_logits(student, lambda z: z[:, :2])
    with pytest.raises(ValueError, match=r"standardise got 2 classes.* set standardise to false"):
        DKD(standardise=True).build(two, two, TARGETS)
    DKD().build(two, two, TARGETS)
    DKD(standardise=True).build(student, student, TARGETS)


def test_of_two_classes_only_the_label_is_left(batch: Batch) -> None:
    batch = replace(batch, target=batch.target % 2)
    s, t = (Features(torch.randn(6, 2, generator=torch.Generator().manual_seed(i))) for i in (1, 2))
    assert float(DKD(alpha=0.0)(s, t, batch)) == 0
    assert float(DKD()(s, t, batch)) > 0


def test_the_authors_warm_up_is_a_ramp(student: Features, teacher: Features, batch: Batch) -> None:
    method = Method.from_table({"dkd": {"weight": [0.0, 1.0], "ramp": [0.0, 20 / 240]}})
    full = DKD()(student, teacher, batch)
    for epoch, share in ((0, 0.0), (5, 0.25), (20, 1.0), (200, 1.0)):
        now = replace(batch, progress=epoch / 240)
        assert torch.allclose(method(student, teacher, now)["dkd"], share * full)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1}, "alpha and beta must be 0 or above, one above, got -1, 8"),
        ({"beta": -1}, "alpha and beta must be 0 or above, one above, got 1.0, -1"),
        ({"alpha": 0, "beta": 0}, "alpha and beta must be 0 or above, one above, got 0, 0"),
        ({"temperature": 0}, "temperature must be above 0, got 0"),
        ({"standardise": 1}, "standardise must be true or false, got 1"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DKD(**options)
