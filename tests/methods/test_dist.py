"""Correlations of probabilities: what they leave free, and what they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods._logits import relations
from edgekd.methods.dist import DIST

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


def test_a_teacher_that_says_nothing_gives_a_finite_gradient(
    student: Features, batch: Batch
) -> None:
    z = student.logits.float().requires_grad_()
    silent = replace(student, logits=torch.zeros(6, 5))
    DIST()(replace(student, logits=z), silent, batch).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    z = torch.zeros(6, 5, requires_grad=True)
    DIST()(replace(student, logits=z), silent, batch).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


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
