"""Relations of embeddings: of what they are made, and what cannot change them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.data import Batch
from edgekd.errors import RecipeError
from edgekd.features import Features
from edgekd.methods import Method
from edgekd.methods.rkd import RKD

LOGITS = torch.zeros(6, 5)
DISTANCE, ANGLE = {"distance": 1.0, "angle": 0.0}, {"distance": 0.0, "angle": 1.0}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def ask(student: Tensor, teacher: Tensor, batch: Batch, **options: float) -> Tensor:
    loss: Tensor = RKD(**options)(Features(LOGITS, student), Features(LOGITS, teacher), batch)
    return loss


def test_an_equilateral_triangle_against_a_right_one(batch: Batch) -> None:
    equal = torch.tensor([[0, 0], [1, 0], [0.5, 0.75**0.5]]).double()
    right = torch.tensor([[0, 0], [1, 0], [0, 1]]).double()
    mean = (2 + 2**0.5) / 3
    apart = 2 * (2 * (1 / mean - 1) ** 2 + (2**0.5 / mean - 1) ** 2) / 2 / 9
    turned = 2 * (0.5**2 + 2 * (0.5**0.5 - 0.5) ** 2) / 2 / 27  # angles of 90, 45 and 45 degrees
    assert ask(equal, right, batch, **DISTANCE) == pytest.approx(apart)
    assert ask(equal, right, batch, **ANGLE) == pytest.approx(turned)
    assert ask(equal, right, batch) == pytest.approx(25 * apart + 50 * turned)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x + 3,
        lambda x: 0.1 * x,
        lambda x: x.flip(1),
        lambda x: x @ torch.linalg.qr(noise(8, 8, seed=3)).Q,
        lambda x: torch.cat([x, torch.zeros(6, 3)], 1),
    ],
)
def test_what_keeps_the_shape_of_the_cloud_keeps_the_loss(change: Any, batch: Batch) -> None:
    student, teacher = noise(6, 8), noise(6, 3, seed=1)
    expected = ask(student, teacher, batch)
    assert expected > 0.1
    assert ask(change(student), teacher, batch) == pytest.approx(float(expected))
    assert ask(student, change(student), batch) < 1e-12


def test_stretching_one_axis_is_seen_by_both(batch: Batch) -> None:
    student = noise(6, 8)
    teacher = student * torch.tensor([9.0, *[1] * 7])
    assert ask(student, teacher, batch, **DISTANCE) > 1e-3
    assert ask(student, teacher, batch, **ANGLE) > 1e-3


def test_large_differences_count_linearly(batch: Batch) -> None:
    # one image far from five that nearly coincide: 5 distances of 15 are 3 times the mean
    far = torch.cat([torch.full((1, 4), 1e6), noise(5, 4)]).double()
    loss = ask(torch.eye(6).double(), far, batch, **DISTANCE)
    assert loss == pytest.approx((10 * 1.5 + 20 * 0.5) / 36, rel=1e-4)


@pytest.mark.parametrize("same", [slice(2), slice(None)])
@pytest.mark.parametrize("options", [{}, DISTANCE, ANGLE])
def test_embeddings_that_coincide_send_a_finite_gradient(
    same: slice, options: dict[str, float], batch: Batch
) -> None:
    student = noise(6, 8)
    student[same] = 1
    student.requires_grad_()
    loss = ask(student, noise(6, 3, seed=1), batch, **options)
    assert loss > 0
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


@pytest.mark.parametrize("option", ["distance", "angle"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(option: str, value: float) -> None:
    with pytest.raises(RecipeError, match=f"'rkd': {option} must be a number of at least 0, got"):
        Method.from_table({"rkd": {option: value}})


def test_weights_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="distance and angle must not both be 0"):
        RKD(distance=0, angle=0)
