"""A review goes from coarse to fine, and weighs differences by how far they reach."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods.reviewkd import ReviewKD
from tests.methods.conftest import TARGETS

REFERENCE = runpy.run_path(str(Path(__file__).parents[1] / "reference" / "reviewkd.py"))
Shape = tuple[int, int, int]


def shown(shapes: Sequence[Shape], embedding: int, seed: int) -> Features:
    """Maps (C, H, W), and what there was before their activation."""
    source = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(6, *shape, generator=source).double()

    stages, preacts = (tuple(noise(*shape) for shape in shapes) for _ in range(2))
    return Features(noise(5), noise(embedding), stages, preacts)


def built(student: Features, teacher: Features, **options: Any) -> ReviewKD:
    torch.manual_seed(0)
    made = ReviewKD(**options)
    made.build(student, teacher, TARGETS)
    return made.double()


class Says(nn.Module):
    """In place of what is fused: always the same."""

    def __init__(self, said: Tensor) -> None:
        super().__init__()
        self.said = said

    def forward(self, map: Tensor, deeper: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return map, self.said


def hcl(difference: Tensor, batch: Batch) -> float:
    """The loss when the finest level differs by this and the embedding by nothing."""
    b, c, h, w = difference.shape
    nothing = (torch.zeros(b, c, h, w),)
    features = Features(torch.zeros(b, 5), torch.zeros(b, 3), nothing, nothing)
    made = built(features, features)
    made.fusions = nn.ModuleList([Says(torch.zeros(b, 3, 1, 1)), Says(difference)])
    return float(made(features, features, batch))


@pytest.mark.parametrize(
    ("side", "total"), [(1, 1), (2, 1.5), (3, 1.75), (4, 1.75), (5, 1.875), (8, 1.875)]
)
def test_context_weighs_less_the_wider_it_is(side: int, total: float, batch: Batch) -> None:
    everywhere = torch.full((6, 4, side, side), 3.0)
    assert hcl(everywhere, batch) == pytest.approx(9)  # each average differs as much as each place
    if side % 2 == 0:  # a checkerboard averages to nothing, wherever two places meet
        rows = torch.arange(side)
        board = 3 * (-1.0) ** (rows[:, None] + rows)
        assert hcl(board.expand(6, 4, -1, -1), batch) == pytest.approx(9 / total)


def test_a_grid_that_is_not_smaller_both_ways_is_left_out(batch: Batch) -> None:
    assert hcl(torch.full((6, 4, 1, 9), 3.0), batch) == pytest.approx(9)
    board = 3 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(1, 4)
    assert hcl(board.expand(6, 4, 2, 8), batch) == pytest.approx(9 / 1.5)


def test_what_is_deep_reaches_every_level_and_what_is_fine_only_its_own(batch: Batch) -> None:
    student, teacher = shown([(4, 8, 8), (6, 4, 4)], 7, 1), shown([(5, 8, 8), (9, 4, 4)], 8, 2)
    made = built(student, teacher).eval()  # so that images do not mix

    def said(features: Features) -> list[Tensor]:
        found: list[Tensor] = []
        hooks = [
            fusion.register_forward_hook(lambda _, __, output: found.append(output[1]))
            for fusion in made.fusions
        ]
        made(features, teacher, batch)
        for hook in hooks:
            hook.remove()
        return found

    assert student.embedding is not None
    plain = said(student)
    deep = said(Features(student.logits, student.embedding + 1, student.stages, student.preacts))
    fine = said(
        Features(
            student.logits,
            student.embedding,
            (student.stages[0] + 1, student.stages[1]),
            student.preacts,
        )
    )
    assert [torch.equal(a, b) for a, b in zip(plain, deep, strict=True)] == [False] * 3
    assert [torch.equal(a, b) for a, b in zip(plain, fine, strict=True)] == [True, True, False]
    assert [map.shape[1:] for map in plain] == [(8, 1, 1), (9, 4, 4), (5, 8, 8)]


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ([(4, 6, 10), (6, 3, 5)], [(5, 12, 20), (9, 6, 10)]),
        ([(4, 7, 3), (6, 2, 5), (8, 1, 1)], [(5, 9, 4), (9, 1, 6), (3, 2, 2)]),
        ([(4, 4, 4)] * 3, [(5, 4, 4)] * 4),
        ([(4, 1, 1)], [(5, 1, 1)]),
    ],
)
def test_maps_of_any_size_give_the_paper_s_loss(
    student: list[Shape], teacher: list[Shape], batch: Batch
) -> None:
    both = shown(student, 7, 1), shown(teacher, 11, 2)
    made = built(*both, mid=5)
    learned = {key: value.clone().numpy() for key, value in made.state_dict().items()}
    as_numpy: Any = Tensor.numpy
    plain = [SimpleNamespace(**vars(features.mapped(as_numpy))) for features in both]
    expected = REFERENCE["loss"](*plain, batch, learned, mid=5)
    assert made(*both, batch).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("embedding", "mid", "width"), [(7, 0, 7), (600, 0, 512), (7, 9, 9)])
def test_levels_are_fused_in_the_width_asked_for(embedding: int, mid: int, width: int) -> None:
    features = shown([(4, 2, 2)], embedding, 1)
    shapes = {k: tuple(v.shape) for k, v in built(features, features, mid=mid).state_dict().items()}
    assert shapes["fusions.0.narrow.0.weight"] == (width, embedding, 1, 1)
    assert shapes["fusions.0.widen.0.weight"] == (embedding, width, 1, 1)
    assert shapes["fusions.1.narrow.0.weight"] == (width, 4, 1, 1)
    assert shapes["fusions.1.attend.weight"] == (2, 2 * width, 1, 1)
    assert shapes["fusions.1.widen.0.weight"] == (4, width, 3, 3)
    assert "fusions.0.attend.weight" not in shapes  # there is nothing below the deepest


def test_the_student_shows_its_maps_and_the_teacher_those_before_activation(batch: Batch) -> None:
    student, teacher = shown([(4, 4, 4)], 7, 1), shown([(5, 4, 4)], 8, 2)
    made = built(student, teacher)
    expected = made(student, teacher, batch)
    other = shown([(1, 1, 1)], 1, 3).stages
    student = Features(student.logits, student.embedding, student.stages, other)
    teacher = Features(teacher.logits, teacher.embedding, other, teacher.preacts)
    assert torch.equal(made(student, teacher, batch), expected)


def test_networks_that_show_no_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="expected feature maps of both networks"):
        ReviewKD().build(shown([], 7, 1), shown([], 7, 1), TARGETS)


@pytest.mark.parametrize("mid", [-1, 2.5, True, None])
def test_a_width_that_is_none_is_refused(mid: Any) -> None:
    with pytest.raises(ValueError, match="mid must be a whole number of at least 0"):
        ReviewKD(mid=mid)
