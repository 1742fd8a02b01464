"""Factor transfer: what a factor is, how far two are apart, what the paraphraser learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Term
from edgekd.methods._factor import factor_distance
from edgekd.methods.ft import FT

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
    ("reconstruction", "error", "lr"), [("l1", F.l1_loss, 0.1), ("l2", F.mse_loss, 0.02)]
)
def test_study_rebuilds_the_map_better_than_nothing_would(
    reconstruction: str,
    error: Callable[[Tensor, Tensor], Tensor],
    lr: float,
    shown: Shown,
    batch: Batch,
    built: Built,
) -> None:
    teacher = shown([(6, 4)], 2).mapped(lambda tensor: 3 * tensor)
    made = built(FT(reconstruction=reconstruction), shown(STUDENT, 1), teacher)
    assert isinstance(made, FT)
    coder, map = made.of_teacher, teacher.stages[-1]
    before = made.study(teacher, batch).detach()
    assert torch.allclose(before, error(coder.decoder(coder.encoder(map)), map))
    optimiser = torch.optim.SGD(coder.parameters(), lr, momentum=0.9)
    for _ in range(400):
        optimiser.zero_grad()
        torch.autograd.backward(made.study(teacher, batch))
        optimiser.step()
    assert made.study(teacher, batch) < 0.9 * error(torch.zeros_like(map), map)
    assert f"error={reconstruction}" in repr(coder)


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
