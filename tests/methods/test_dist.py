"""Correlations of probabilities: what they leave free, and what they hold."""

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

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods._logits import relations
from edgekd.methods.dist import DIST
from tests.methods.conftest import TARGETS

REFERENCE = runpy.run_path(str(Path(__file__).parents[1] / "reference" / "dist.py"))
Shown = Callable[..., Features]


@pytest.fixture
def student(shown: Shown) -> Features:
    return shown([(4, 2)], 1).mapped(Tensor.double)


def of(p: Tensor) -> Features:
    """A network with these probabilities, at a temperature of 1."""
    return Features(p.log())


def probabilities() -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randn(6, 5, generator=source).double().softmax(1)


def test_probabilities_nearer_to_the_mean_are_as_good(batch: Batch) -> None:
    q = probabilities()
    calmer = 0.3 * q + 0.7 / 5  # each row and each column moved and scaled alike
    assert float(DIST(temperature=1.0)(of(calmer), of(q), batch)) == pytest.approx(0, abs=1e-9)


def test_each_image_may_be_calmer_by_itself_for_the_classes_alone(batch: Batch) -> None:
    q = probabilities()
    share = torch.linspace(0.1, 1.0, 6).double()[:, None]
    uneven = share * q + (1 - share) / 5
    rows, columns = relations(uneven.log(), q.log(), 1.0)
    assert float(rows) == pytest.approx(0, abs=1e-9)
    assert float(columns) > 1e-3


def test_the_opposite_of_the_teacher_is_twice_the_loss_of_the_unrelated(batch: Batch) -> None:
    q = probabilities()
    rows, columns = relations((0.24 - 0.2 * q).log(), q.log(), 1.0)
    assert float(rows) == pytest.approx(2, abs=1e-9)
    assert float(columns) == pytest.approx(2, abs=1e-9)


@pytest.mark.parametrize(("beta", "gamma"), [(1.0, 0.0), (0.0, 1.0), (2.0, 3.0)])
def test_both_parts_are_weighed(
    beta: float, gamma: float, student: Features, shown: Shown, batch: Batch
) -> None:
    teacher = shown([(4, 2)], 2).mapped(Tensor.double)
    rows, columns = relations(student.logits, teacher.logits, 4.0)
    found = DIST(beta=beta, gamma=gamma)(student, teacher, batch)
    assert torch.allclose(found, beta * rows + gamma * columns)


def test_a_class_that_hardly_varies_says_hardly_anything() -> None:
    p = torch.eye(2).double() * 1e-7 + torch.tensor([[0.5, 0.5]])
    _, columns = relations(p.log(), p.log(), 1.0)
    assert float(columns) == pytest.approx(1, abs=1e-5)


def test_of_one_image_there_are_no_relations_between_images(student: Features) -> None:
    s, t = student.logits[:1], student.logits[1:2]
    rows, columns = relations(s.clone().requires_grad_(), t, 1.0)
    assert float(columns.detach()) == 1
    assert float(rows.detach()) > 0


def gradient(student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
    z = student.clone().requires_grad_()
    DIST()(Features(z), Features(teacher), batch).backward()
    assert z.grad is not None
    return z.grad


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-6])
def test_who_says_the_same_of_everything_neither_asks_for_nor_sends_a_gradient(
    size: float, precision: torch.dtype, student: Features, batch: Batch
) -> None:
    spoken = student.logits.to(precision)
    faint = size * spoken.flip(0)
    for pair in ((faint, spoken), (spoken, faint), (faint, faint)):
        assert not gradient(*pair, batch).any()
        assert float(DIST()(*map(Features, pair), batch)) == 2 * 4.0**2  # both correlations are 0
    assert 0.1 < float(gradient(spoken, spoken.flip(0), batch).norm()) < 100


def test_one_image_of_which_nothing_is_said_leaves_the_others_alone(batch: Batch) -> None:
    q = probabilities()
    z = q.log().flip(0)
    z[2] = 0
    z.requires_grad_()
    rows, _ = relations(z, q.log(), 1.0)
    rows.backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    found = z.grad.abs().sum(1)
    assert found[2] == 0
    assert (found[[0, 1, 3, 4, 5]] > 1e-4).all()


@pytest.mark.parametrize(("length", "rho"), [(0.9e-4, 0.0), (1.1e-4, 1.0)])
def test_what_varies_by_less_than_a_ten_thousandth_is_left_out(length: float, rho: float) -> None:
    ups = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]]).double()
    p = 1 / 3 + ups * length / 2**0.5  # two rows, and two of the columns, of this length
    q = 1 / 3 + 0.2 * ups
    for a, b in ((p, q), (q, p)):
        rows, columns = relations(a.log(), b.log(), 1.0)
        assert float(1 - rows) == pytest.approx(rho, abs=1e-6)
        assert float(1 - columns) == pytest.approx(2 / 3 * rho, abs=1e-6)  # the third is constant


@pytest.mark.parametrize("whose", [0, 1])
def test_of_the_silent_it_is_the_reference_s(
    whose: int, student: Features, shown: Shown, batch: Batch
) -> None:
    pair = [student.logits, shown([(4, 2)], 2).logits.double()]
    pair[whose][:3] *= 1e-6
    plain = [SimpleNamespace(logits=logits.numpy()) for logits in pair]
    found = DIST()(*map(Features, pair), batch)
    assert float(found) == pytest.approx(REFERENCE["loss"](*plain, batch, {}), rel=1e-10)


def test_logits_that_are_no_numbers_are_not_hidden(student: Features, batch: Batch) -> None:
    lost = replace(student, logits=student.logits * torch.nan)
    assert DIST()(lost, student, batch).isnan()


def test_of_two_classes_the_relations_between_images_alone_teach(batch: Batch) -> None:
    q = probabilities()[:, :2]
    z, t = q.log().flip(0).requires_grad_(), q.log()
    of_rows, of_columns = (
        torch.autograd.grad(loss, z, retain_graph=True)[0] for loss in relations(z, t, 1.0)
    )
    assert of_rows.abs().max() < 1e-12
    assert of_columns.abs().max() > 1e-2
    two, three = Features(t), Features(probabilities()[:, :3].log())
    DIST().build(two, two, TARGETS)
    DIST(gamma=0).build(three, three, TARGETS)
    with pytest.raises(ValueError, match=r"between 2 classes, .* expected 3 .* take a gamma"):
        DIST(gamma=0).build(two, two, TARGETS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": -1}, "beta and gamma must be 0 or above, one above, got -1, 1"),
        ({"gamma": -1}, "beta and gamma must be 0 or above, one above, got 1.0, -1"),
        ({"beta": 0, "gamma": 0}, "beta and gamma must be 0 or above, one above, got 0, 0"),
        ({"temperature": -4}, "temperature must be above 0, got -4"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DIST(**options)
