"""Factor transfer: what a factor is, how far two are apart, what the paraphraser learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Term
from edgekd.methods._factor import factor_distance
from edgekd.methods.ft import FT
from tests.methods.conftest import TARGETS

Shown = Callable[..., Features]
Built = Callable[[Term, Features, Features], Term]
STUDENT, TEACHER = [(4, 8), (8, 4)], [(5, 8), (16, 6)]


@pytest.fixture
def factors() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 5, 32, 8, 8, generator=source)
    return first, second


@pytest.mark.parametrize("scale", ["dimfree", "paper"])
def test_the_distance_sees_directions_only(factors: tuple[Tensor, Tensor], scale: str) -> None:
    x, y = factors
    found = factor_distance(x, y, scale, 50)
    lengths = torch.rand(5, 1, 1, 1) + 0.1
    assert torch.allclose(factor_distance(lengths * x, 7 * y, scale, 50), found)
    assert torch.allclose(factor_distance(y, x, scale, 50), found)
    assert factor_distance(x, 3 * x, scale, 50) < 1e-6


@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 5, 2), (32, 8, 8), (64, 14, 14)])
def test_the_distance_is_bounded_and_free_of_the_factors_size(shape: tuple[int, ...]) -> None:
    x = torch.ones(4, *shape)
    elements = x[0].numel()
    usual = 2048**0.5  # so that the loss is sqrt(N) times the mean
    assert float(factor_distance(x, -x, "dimfree", usual)) == pytest.approx(2, rel=1e-5)
    worst = 2 / elements**0.5
    assert float(factor_distance(x, -x, "paper", usual)) == pytest.approx(worst, rel=1e-5)
    y = torch.randn(4, *shape, generator=torch.Generator().manual_seed(1))
    assert 0 < factor_distance(x, y, "dimfree", usual) <= 2


def test_weight_1_is_the_authors_500_where_they_found_it(factors: tuple[Tensor, Tensor]) -> None:
    plain = factor_distance(*factors, "paper", 500)
    assert torch.allclose(factor_distance(*factors, "dimfree", 500), 500 * plain)


def test_a_factor_that_is_all_zero_sends_a_small_gradient(factors: tuple[Tensor, Tensor]) -> None:
    """Dead channels are common; an epsilon in the length would send 1e12 times as much."""
    x, y = factors
    x[2] = 0
    x.requires_grad_()
    distance = factor_distance(x, y, "dimfree", 500)
    (gradient,) = torch.autograd.grad(distance, x)
    assert gradient[2].any()
    assert gradient[2].abs().max() < 0.1
    with torch.no_grad():
        y[2] = 0
        assert factor_distance(x[2:3], y[2:3], "dimfree", 500) == 0  # it stays as it is


@pytest.mark.parametrize(("rate", "channels"), [(0.5, 8), (0.75, 12), (1.0, 16), (0.01, 1)])
def test_a_factor_has_its_share_of_the_teacher_s_channels(
    rate: float, channels: int, shown: Shown, built: Built
) -> None:
    student, teacher = shown(STUDENT, 1), shown(TEACHER, 2)
    made = built(FT(rate=rate), student, teacher)
    assert isinstance(made, FT)
    assert made.of_teacher(teacher.stages[-1]).shape == (6, channels, 6, 6)  # its own size
    assert made.translator(student.stages[-1]).shape == (6, channels, 4, 4)


def test_one_paraphraser_serves_every_student(shown: Shown, built: Built) -> None:
    teacher = shown(TEACHER, 2)
    first = built(FT(), shown(STUDENT, 1), teacher).of_teacher
    other = built(FT(), shown([(9, 5)], 1), teacher).of_teacher
    assert first is not None
    assert other is not None
    assert repr(first) == repr(other)
    for key, value in first.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@pytest.mark.parametrize(
    ("reconstruction", "error", "lr"), [("l1", F.l1_loss, 0.05), ("l2", F.mse_loss, 0.01)]
)
def test_study_rebuilds_the_map_better_than_nothing_would(
    reconstruction: str,
    error: Callable[[Tensor, Tensor], Tensor],
    lr: float,
    shown: Shown,
    batch: Batch,
    built: Built,
) -> None:
    teacher = shown([(6, 4)], 2).mapped(lambda tensor: 3 * tensor.relu())
    made = built(FT(reconstruction=reconstruction), shown(STUDENT, 1), teacher)
    assert isinstance(made, FT)
    coder, map = made.of_teacher, teacher.stages[-1]
    map = map / map.square().mean().sqrt()
    before = made.study(teacher, batch).detach()
    assert torch.allclose(before, error(coder.decoder(coder.encoder(map)), map))
    assert made.study_lr == lr
    assert learned(made, teacher, batch, 800) < 0.9 * error(torch.zeros_like(map), map)
    assert f"error={reconstruction}" in repr(coder)


def learned(made: FT, teacher: Features, batch: Batch, steps: int) -> Tensor:
    """The error of the paraphraser after so many steps at its own rate."""
    optimiser = torch.optim.SGD(made.of_teacher.parameters(), made.study_lr, momentum=0.9)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.autograd.backward(made.study(teacher, batch))
        optimiser.step()
    return made.study(teacher, batch).detach()


@pytest.mark.parametrize("reconstruction", ["l1", "l2"])
@pytest.mark.parametrize("times", [10, 100])
def test_large_maps_are_learned_as_well_as_small_ones(
    times: int, reconstruction: str, shown: Shown, batch: Batch
) -> None:
    """At 10 times its values are of mean 8; not divided, they make the paraphraser diverge."""
    teacher = shown(TEACHER, 2).mapped(lambda tensor: tensor.double().abs())
    large = teacher.mapped(lambda tensor: times * tensor)
    errors, coders = [], []
    for features in (teacher, large):
        torch.manual_seed(0)
        made = FT(reconstruction=reconstruction)
        made.build(features, features, TARGETS)
        made.double()
        errors.append(learned(made, features, batch, 120))
        coders.append(made.of_teacher)
    assert errors[0] < 0.8  # of a map whose mean square is 1
    assert errors[1] == pytest.approx(float(errors[0]), rel=1e-3)
    assert torch.allclose(coders[1].scale, times * coders[0].scale)
    factor, other = coders[0](teacher.stages[-1]), coders[1](large.stages[-1])
    assert torch.allclose(factor, other, rtol=1e-2, atol=1e-2)


def test_the_scale_is_kept_with_what_was_learned(shown: Shown, built: Built) -> None:
    teacher = shown(TEACHER, 2)
    large = teacher.mapped(lambda tensor: 7 * tensor)
    made, other = (built(FT(), shown(STUDENT, 1), features) for features in (teacher, large))
    assert isinstance(made, FT)
    assert isinstance(other, FT)
    expected = teacher.stages[-1].square().mean().sqrt()
    assert torch.allclose(made.of_teacher.scale, expected)
    other.of_teacher.load_state_dict(made.of_teacher.state_dict())
    assert torch.equal(other.of_teacher.scale, made.of_teacher.scale)


def test_a_teacher_whose_map_is_all_zero_has_a_scale(
    shown: Shown, batch: Batch, built: Built
) -> None:
    teacher = shown(TEACHER, 2).mapped(torch.zeros_like)
    made = built(FT(), shown(STUDENT, 1), teacher)
    assert isinstance(made, FT)
    assert made.of_teacher.scale == 1
    assert made.study(teacher, batch).isfinite()


def convolved(grid: Any, weight: Any, bias: Any) -> Any:
    """3x3 convolution of (C, H, W), with a border of zeros."""
    _, h, w = grid.shape
    out = np.tile(bias[:, None, None], (1, h, w))
    padded = np.pad(grid, ((0, 0), (1, 1), (1, 1)))
    for i, j in np.ndindex(3, 3):
        out += np.einsum("kc,chw->khw", weight[:, :, i, j], padded[:, i : i + h, j : j + w])
    return out


def spread(grid: Any, weight: Any, bias: Any) -> Any:
    """The transpose of that: each place of (C, H, W) adds to the nine around it."""
    _, h, w = grid.shape
    out = np.zeros((weight.shape[1], h + 2, w + 2))
    for y, x in np.ndindex(h, w):
        out[:, y : y + 3, x : x + 3] += np.einsum("c,ckij->kij", grid[:, y, x], weight)
    return out[:, 1:-1, 1:-1] + bias[:, None, None]


@pytest.mark.parametrize("reconstruction", ["l1", "l2"])
def test_the_study_is_the_authors_in_plain_loops(
    reconstruction: str, shown: Shown, batch: Batch, built: Built
) -> None:
    student, teacher = (shown(s, 1).mapped(Tensor.double) for s in (STUDENT, TEACHER))
    made = built(FT(reconstruction=reconstruction), student, teacher).double()
    assert isinstance(made, FT)
    state = {key: value.numpy() for key, value in made.of_teacher.state_dict().items()}
    maps, total = teacher.stages[-1].numpy(), 0.0
    scale = np.sqrt(np.mean(maps**2))
    for wanted in maps / scale:
        grid = wanted
        for part, layer in (("encoder", convolved), ("decoder", spread)):
            for i in (0, 2, 4):
                grid = layer(grid, state[f"{part}.{i}.weight"], state[f"{part}.{i}.bias"])
                grid = np.where(grid > 0, grid, 0.1 * grid)
        error = np.abs(grid - wanted) if reconstruction == "l1" else (grid - wanted) ** 2
        total += error.mean() / len(maps)
    assert float(made.study(teacher, batch).detach()) == pytest.approx(total, rel=1e-10)


def test_what_was_studied_stays_as_it_is_while_the_translator_learns(
    shown: Shown, batch: Batch, built: Built
) -> None:
    student, teacher = shown(STUDENT, 1), shown(TEACHER, 2)
    made = built(FT(), student, teacher)
    assert isinstance(made, FT)
    studied = {key: value.clone() for key, value in made.of_teacher.state_dict().items()}
    optimiser = torch.optim.SGD(made.parameters(), 1e-3, momentum=0.9)
    first = float(made(student, teacher, batch).detach())
    for _ in range(50):
        optimiser.zero_grad()
        made(student, teacher, batch).backward()
        optimiser.step()
    assert float(made(student, teacher, batch).detach()) < 0.9 * first
    for key, value in made.of_teacher.state_dict().items():
        assert torch.equal(value, studied[key]), key


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "rate must be above 0 and at most 1, got 0.0"),
        ({"rate": 1.5}, "rate must be above 0 and at most 1, got 1.5"),
        ({"scale": "mean"}, "scale must be one of dimfree, paper, got 'mean'"),
        ({"reconstruction": "l3"}, "reconstruction must be one of l1, l2, got 'l3'"),
        ({"study_share": 2.0}, r"study_share must be in \(0, 1\], got 2.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FT(**options)
