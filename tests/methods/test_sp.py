"""Similarities of images: of what they are made, and what cannot change them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.data import Batch
from edgekd.errors import RecipeError
from edgekd.features import Features
from edgekd.methods import Method
from edgekd.methods.sp import SP
from tests.methods.conftest import TARGETS

LOGITS = torch.zeros(2, 5)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ask(student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
    loss: Tensor = SP()(
        Features(LOGITS, stages=(student,)), Features(LOGITS, stages=(teacher,)), batch
    )
    return loss


def test_two_images_that_one_network_finds_alike_and_the_other_does_not(batch: Batch) -> None:
    alike, unlike = torch.ones(2, 1, 1, 1), torch.eye(2).reshape(2, 2, 1, 1)
    # each row of G is (1, 1) / sqrt(2) for the one, and a unit vector for the other
    assert ask(alike, unlike, batch) == pytest.approx(2 - 2**0.5)


@pytest.mark.parametrize(
    "change",
    [
        lambda maps: 7 * maps,
        lambda maps: -maps,
        lambda maps: maps.flip(1),
        lambda maps: maps.transpose(2, 3),
        lambda maps: maps.reshape(6, 2, 5, 6),
        lambda maps: torch.cat([maps, torch.zeros(6, 3, 3, 4)], 1),
    ],
)
def test_what_keeps_angles_between_images_keeps_the_loss(change: Any, batch: Batch) -> None:
    student, teacher = noise(6, 5, 3, 4), noise(6, 9, 2, 7, seed=1)
    expected = ask(student, teacher, batch)
    assert expected > 0.01
    assert torch.allclose(ask(change(student), teacher, batch), expected, rtol=1e-4)
    assert ask(student, change(student), batch) < 1e-9


def along(maps: Tensor) -> list[list[float]]:
    """Equations 1 to 4 of the paper, number by number."""
    rows = maps.flatten(1).tolist()
    gram = [[sum(p * q for p, q in zip(a, b, strict=True)) for b in rows] for a in rows]
    return [[value / math.sqrt(sum(g * g for g in row)) for value in row] for row in gram]


@pytest.mark.parametrize("size", [2, 5, 6])
def test_weight_1_is_the_paper_s_loss_times_the_batch_size(size: int, batch: Batch) -> None:
    student, teacher = noise(size, 5, 3, 4).double(), noise(size, 9, 2, 2, seed=1).double()
    g_s, g_t, paper = along(student), along(teacher), 0.0
    for i in range(size):
        for j in range(size):
            paper += (g_t[i][j] - g_s[i][j]) ** 2
    paper /= size * size
    found = float(ask(student, teacher, batch))
    assert found == pytest.approx(size * paper, rel=1e-12)
    assert 3000 / size * found == pytest.approx(3000 * paper)  # the authors' weight


def test_its_size_does_not_depend_on_the_batch_size(batch: Batch) -> None:
    small, large = (ask(noise(b, 40), noise(b, 40, seed=1), batch) for b in (16, 256))
    assert 0.2 < small / large < 5  # divided by B^2 this is 16 times


@pytest.mark.parametrize("dead", [0, slice(None)])
def test_an_image_without_any_response_sends_a_finite_gradient(dead: Any, batch: Batch) -> None:
    student = noise(6, 5, 3, 4)
    student[dead] = 0
    student.requires_grad_()
    loss = ask(student, noise(6, 5, 3, 4, seed=1), batch)
    assert torch.autograd.grad(loss, student)[0].abs().max() < 100


def test_the_stage_is_the_one_asked_for(batch: Batch) -> None:
    fine, coarse, other = noise(6, 4, 4, 4), noise(6, 8, 2, 2, seed=1), noise(6, 8, 2, 2, seed=2)
    student, teacher = (Features(LOGITS, stages=(fine, map)) for map in (coarse, other))
    assert SP(stage=0)(student, teacher, batch) == 0
    assert SP(stage=-1)(student, teacher, batch) > 0.01


@pytest.mark.parametrize("stage", [-3, 2])
def test_a_stage_there_is_not_is_refused_with_those_there_are(stage: int) -> None:
    shown = Features(LOGITS, stages=(noise(6, 4, 4, 4), noise(6, 8, 2, 2)))
    expected = f"no stage {stage} among 2 pairs of stages; expected one from -2 to 1"
    with pytest.raises(ValueError, match=expected):
        SP(stage).build(shown, shown, TARGETS)


@pytest.mark.parametrize("stage", [0.5, True, None])
def test_a_stage_that_is_no_whole_number_is_refused(stage: Any) -> None:
    with pytest.raises(RecipeError, match=r"method 'sp': stage must be a (whole )?number, got"):
        Method.from_table({"sp": {"stage": stage}})
