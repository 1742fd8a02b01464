"""What a Gaussian with a learned variance for each channel promises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features, same_size
from edgekd.methods.vid import FLOOR, VID, Gaussian
from tests.methods.conftest import TARGETS

Shown = Callable[..., Features]
STUDENT: Sequence[tuple[int, int]] = [(4, 8), (6, 4)]
TEACHER: Sequence[tuple[int, int]] = [(8, 8), (10, 4)]


def vid(student: Features, teacher: Features, **options: Any) -> VID:
    torch.manual_seed(0)
    made = VID(**options)
    made.build(student, teacher, TARGETS)
    return made


def variances(made: nn.Module) -> Tensor:
    return F.softplus(made.get_parameter("rho")).detach() + FLOOR


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("variance", [2e-5, 0.1, 5.0, 1e4])
def test_the_variance_starts_where_it_is_told_to(variance: float) -> None:
    v = variances(Gaussian(3, 4, variance))
    assert torch.allclose(v, torch.full((4,), variance), rtol=1e-2 if variance < 1e-3 else 1e-5)


def test_the_loss_is_a_gaussian_s_up_to_a_constant() -> None:
    made, given, seen = Gaussian(3, 4, 5.0), torch.randn(6, 3, 2, 2), torch.randn(6, 4, 2, 2)
    with torch.no_grad():
        made.rho.copy_(torch.tensor([-3.0, 0.0, 1.0, 4.0]))
        v = variances(made)[:, None, None]
        whole = F.gaussian_nll_loss(made.mean(given), seen, v.expand_as(seen), full=True)
        expected = float(whole) - math.log(2 * math.pi) / 2
    assert float(made(given, seen).detach()) == pytest.approx(expected, rel=1e-5)


def test_the_best_variance_of_a_channel_is_its_mean_squared_error() -> None:
    made, given = Gaussian(3, 2, 1.0), torch.randn(64, 3, 2, 2)
    seen = torch.randn(64, 2, 2, 2) * torch.tensor([0.3, 2.0])[:, None, None]
    for parameter in made.mean.parameters():
        parameter.requires_grad_(False).zero_()  # it predicts 0
    step = torch.optim.Adam([made.rho], 0.1)
    for _ in range(500):
        step.zero_grad()
        made(given, seen).backward()
        step.step()
    assert torch.allclose(variances(made), seen.square().mean((0, 2, 3)), rtol=1e-2)


def test_a_channel_with_a_large_variance_counts_little() -> None:
    made, given = Gaussian(3, 2, 1.0), torch.randn(6, 3, 2, 2)
    with torch.no_grad():
        made.rho[1] = 50.0
    seen = torch.randn(6, 2, 2, 2, requires_grad=True)
    made(given, seen).backward()
    assert seen.grad is not None
    sizes = seen.grad.abs().mean((0, 2, 3))
    assert sizes[1] < 0.1 * sizes[0]


def test_learning_to_predict_brings_the_loss_below_zero(shown: Shown, batch: Batch) -> None:
    student = shown(STUDENT, 1)
    made = vid(student, student, variance=1.0)
    step = torch.optim.Adam(made.parameters(), 0.02)
    losses = []
    for _ in range(150):
        step.zero_grad()
        loss: Any = made(student, student, batch)
        loss.backward()
        step.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0 > losses[-1]
    assert all(variances(stage).min() >= FLOOR for stage in made.stages)


def test_every_pair_of_stages_is_added_up(shown: Shown, batch: Batch) -> None:
    student, teacher = shown(STUDENT, 1), shown([(5, 16), *TEACHER], 2)
    made = vid(student, teacher)
    pairs = zip(student.stages, teacher.stages[1:], strict=True)
    parts = [stage(*same_size(*pair)) for stage, pair in zip(made.stages, pairs, strict=True)]
    assert torch.allclose(made(student, teacher, batch), parts[0] + parts[1])


def test_variances_do_not_decay(shown: Shown) -> None:
    made = vid(shown(STUDENT, 1), shown(TEACHER, 2))
    assert made.no_weight_decay() == {"stages.0.rho", "stages.1.rho"}
    assert made.no_weight_decay() < {name for name, _ in made.named_parameters()}


def test_networks_without_maps_are_refused(shown: Shown) -> None:
    with pytest.raises(ValueError, match="expected feature maps of both networks"):
        VID().build(shown(STUDENT, 1), Features(torch.zeros(6, 5)), TARGETS)


@pytest.mark.parametrize("variance", [0.0, -1.0, 1e-5, math.inf, math.nan])
def test_a_variance_that_is_none_is_refused(variance: float) -> None:
    with pytest.raises(ValueError, match=r"variance must be above 0\.00001 and finite, got"):
        VID(variance)
