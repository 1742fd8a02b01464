"""Distillation of logits: as they are, standardised, and with a temperature for the label."""

from __future__ import annotations

import runpy
from collections.abc import Callable
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
from edgekd.methods._logits import standardised
from edgekd.methods.kd import KD
from tests.methods.conftest import TARGETS

REFERENCE = runpy.run_path(str(Path(__file__).parents[1] / "reference" / "kd.py"))
Shown = Callable[..., Features]


@pytest.fixture
def student(shown: Shown) -> Features:
    return shown([(4, 2)], 1).mapped(Tensor.double)


@pytest.fixture
def teacher(shown: Shown) -> Features:
    return shown([(4, 2)], 2).mapped(Tensor.double)


def of(student: Features, teacher: Features, batch: Batch, **options: Any) -> Tensor:
    loss: Tensor = KD(**options)(student, teacher, batch)
    return loss


def with_logits(features: Features, change: Callable[[Tensor], Tensor]) -> Features:
    return replace(features, logits=change(features.logits))


def test_without_options_it_is_hinton_s_to_the_bit(
    student: Features, teacher: Features, batch: Batch
) -> None:
    student, teacher = student.float(), teacher.float()
    s, t = (F.log_softmax(f.logits / 4.0, dim=1) for f in (student, teacher))
    plain = 4.0 * 4.0 * F.kl_div(s, t, reduction="batchmean", log_target=True)
    assert torch.equal(of(student, teacher, batch), plain)


def test_standardised_logits_have_mean_0_and_deviation_1(student: Features) -> None:
    z = standardised(student.logits)
    assert torch.allclose(z.mean(1), torch.zeros(6).double(), atol=1e-12)
    assert torch.allclose(z.std(1), torch.ones(6).double(), atol=1e-6)


def test_the_surest_standardised_logit_of_1000_is_below_32() -> None:
    assert float(standardised(torch.eye(1000)[:1]).max()) == pytest.approx(31.59, abs=0.01)


@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_standardised_it_does_not_matter_how_sure_anyone_is(
    whose: str, student: Features, teacher: Features, batch: Batch
) -> None:
    both = {"student": student, "teacher": teacher}
    surer = both | {whose: with_logits(both[whose], lambda z: 3 * z + 7)}
    for standardise in (True, False):
        before = of(**both, batch=batch, standardise=standardise)
        after = of(**surer, batch=batch, standardise=standardise)
        assert torch.allclose(after, before, rtol=1e-5) is standardise


def test_standardised_a_student_that_is_the_teacher_scaled_has_nothing_to_learn(
    teacher: Features, batch: Batch
) -> None:
    student = with_logits(teacher, lambda z: 0.2 * z - 1)
    assert of(student, teacher, batch, standardise=True) < 1e-12
    assert of(student, teacher, batch) > 1e-3


def test_standardised_the_gradient_changes_neither_mean_nor_scale(
    student: Features, teacher: Features, batch: Batch
) -> None:
    z = student.logits.clone().requires_grad_()
    of(replace(student, logits=z), teacher, batch, standardise=True).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert z.grad.abs().sum() > 0.01
    assert z.grad.sum(1).abs().max() < 1e-8
    assert (z.grad * (z - z.mean(1, keepdim=True))).sum(1).abs().max() < 1e-7


def spread(logits: Tensor, deviation: float) -> Tensor:
    """The same logits with this deviation."""
    return standardised(logits) * deviation


def gradient(student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
    z = student.clone().requires_grad_()
    of(Features(z), Features(teacher), batch, standardise=True).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    return z.grad


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("deviation", [0.0, 1e-6, 9e-5])
def test_standardised_logits_that_hardly_differ_send_no_gradient(
    deviation: float,
    precision: torch.dtype,
    student: Features,
    teacher: Features,
    batch: Batch,
) -> None:
    for shift in (0.0, 2.0):  # a classifier of zeros, and one with a bias
        faint = (spread(student.logits, deviation) + shift).to(precision)
        assert not standardised(faint).any()
        assert not gradient(faint, teacher.logits.to(precision), batch).any()
    mixed = torch.cat([faint[:1], student.logits[1:].to(precision)])  # image by image
    found = gradient(mixed, teacher.logits.to(precision), batch).abs().sum(1)
    assert found[0] == 0
    assert (found[1:] > 1e-3).all()


def test_standardised_logits_that_differ_a_little_more_are_not_left_out(
    student: Features, teacher: Features, batch: Batch
) -> None:
    found = gradient(spread(student.logits, 1.1e-4), teacher.logits, batch)
    assert (found.abs().sum(1) > 0).all()


@pytest.mark.parametrize("deviation", [0.0, 1e-6])
def test_standardised_a_silent_teacher_asks_for_equal_logits(
    deviation: float, student: Features, teacher: Features, batch: Batch
) -> None:
    silent = spread(teacher.logits, deviation)
    found = gradient(student.logits, silent, batch)
    assert torch.equal(found, gradient(student.logits, torch.zeros_like(silent), batch))
    assert 1e-2 < float(found.norm()) < 10


@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_standardised_and_silent_it_is_the_reference_s(
    whose: str, student: Features, teacher: Features, batch: Batch
) -> None:
    shown = {"student": student, "teacher": teacher}
    shown[whose] = with_logits(shown[whose], lambda z: spread(z, 1e-6))
    found = of(**shown, batch=batch, standardise=True)
    plain = {name: SimpleNamespace(logits=f.logits.numpy()) for name, f in shown.items()}
    expected = REFERENCE["loss"](**plain, batch=batch, learned={}, standardise=True)
    assert float(found) == pytest.approx(expected, rel=1e-10)


def test_logits_that_are_no_numbers_are_not_hidden(teacher: Features, batch: Batch) -> None:
    lost = with_logits(teacher, lambda z: z * torch.nan)
    assert of(lost, teacher, batch, standardise=True).isnan()


def test_standardised_two_classes_are_refused(teacher: Features) -> None:
    two = with_logits(teacher, lambda z: z[:, :2])
    three = with_logits(teacher, lambda z: z[:, :3])
    with pytest.raises(
        ValueError, match=r"standardise got 2 classes.* expected 3 .* set standardise to false"
    ):
        KD(standardise=True).build(two, two, TARGETS)
    KD().build(two, two, TARGETS)
    KD(standardise=True).build(three, three, TARGETS)


def test_a_label_temperature_that_is_the_temperature_is_plain(
    student: Features, teacher: Features, batch: Batch
) -> None:
    plain = of(student, teacher, batch, temperature=3.0)
    same = of(student, teacher, batch, temperature=3.0, label_temperature=3.0)
    assert torch.allclose(same, plain, rtol=1e-12)


@pytest.mark.parametrize("label_temperature", [0.5, 5.0])
def test_with_a_label_temperature_a_constant_in_the_logits_still_does_not_matter(
    label_temperature: float, student: Features, teacher: Features, batch: Batch
) -> None:
    options = {"label_temperature": label_temperature, "temperature": 2.0}
    shifted = with_logits(teacher, lambda z: z + 5)
    first = of(student, teacher, batch, **options)
    assert torch.allclose(of(student, shifted, batch, **options), first, rtol=1e-12)


def test_a_label_temperature_above_the_other_makes_the_teacher_less_sure_of_the_label(
    teacher: Features, batch: Batch
) -> None:
    label = F.one_hot(batch.target, 5).double()
    sure = with_logits(teacher, lambda z: z + 9 * label)  # right by far, as large teachers are
    silent = with_logits(teacher, torch.zeros_like)
    shares = []
    for label_temperature in (2.0, 4.0, 6.0):
        z = silent.logits.clone().requires_grad_()
        made = KD(temperature=2.0, label_temperature=label_temperature)
        made(replace(silent, logits=z), sure, batch).backward()
        assert z.grad is not None
        # the gradient at logit k is T (p_k - q_k) / B, and a silent student's p_k is 1/5
        q = 0.2 - z.grad * len(z) / 2
        assert torch.allclose(q.sum(1), torch.ones(6).double())
        shares.append(float((q * label).sum(1).mean()))
    assert shares[0] > shares[1] > shares[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature must be above 0, got 0"),
        ({"standardise": 1}, "standardise must be true or false, got 1"),
        ({"label_temperature": -2}, "label_temperature must be above 0, or 0, got -2"),
        (
            {"standardise": True, "label_temperature": 2.0},
            "standardise and label_temperature exclude each other, .* choose one",
        ),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KD(**options)
