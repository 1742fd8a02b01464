"""Hints: which stage gives them, and what the regressor can and cannot make up for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods.fitnet import FitNet
from tests.methods.conftest import TARGETS

Shown = Callable[..., Features]
STAGES = [(4, 8), (6, 4), (8, 2)]


def built(student: Features, teacher: Features, **options: Any) -> FitNet:
    torch.manual_seed(0)
    made = FitNet(**options)
    made.build(student, teacher, TARGETS)
    return made


@pytest.mark.parametrize(("stage", "looks_at"), [(-1, 2), (-2, 1), (0, 0)])
def test_one_stage_alone_is_looked_at(
    stage: int, looks_at: int, shown: Shown, batch: Batch
) -> None:
    student, teacher = shown(STAGES, 1, grad=True), shown(STAGES, 2)
    built(student, teacher, stage=stage)(student, teacher, batch).backward()
    assert [map.grad is not None for map in student.stages] == [i == looks_at for i in range(3)]


def test_stages_are_counted_among_those_that_both_have(shown: Shown) -> None:
    deep, shallow = shown(STAGES, 1), shown([(9, 4), (5, 2)], 2)
    made = built(deep, shallow, stage=0)
    assert made.adapter.weight.shape == (9, 6, 1, 1)


def test_a_teacher_that_mixes_the_student_s_channels_has_nothing_more_to_say(
    shown: Shown, batch: Batch
) -> None:
    student = shown(STAGES, 1)
    made = built(student, shown([(9, 8), (7, 4), (5, 2)], 2))

    def mixed(map: Tensor) -> Tensor:
        return made.adapter(map).detach() if map.shape[1] == 6 else map

    teacher = replace(student, stages=tuple(map(mixed, student.stages)))
    assert float(made(student, teacher, batch).detach()) == 0
    moved = replace(teacher, stages=tuple(map.flip(0) for map in teacher.stages))
    assert float(made(student, moved, batch).detach()) > 0.01


def test_the_larger_map_is_averaged(shown: Shown, batch: Batch) -> None:
    student, teacher = shown([(4, 8)], 1), shown([(4, 4)], 2)
    made = built(student, teacher, stage=-1)
    small = replace(student, stages=(torch.nn.functional.avg_pool2d(student.stages[0], 2),))
    found = [made(features, teacher, batch) for features in (student, small)]
    assert torch.allclose(*found)  # a 1x1 convolution and an average change places


@pytest.mark.parametrize(
    ("stages", "options", "message"),
    [
        ([(4, 8)], {}, r"stage -2 of 1: expected one there is, such as -1"),
        (STAGES, {"stage": 7}, r"stage 7 of 3: expected one there is, such as -1"),
        (STAGES, {"stage": -4}, r"stage -4 of 3: expected one there is, such as -1"),
    ],
)
def test_a_stage_there_is_not_is_refused(
    stages: list[tuple[int, int]], options: dict[str, Any], message: str, shown: Shown
) -> None:
    features = shown(stages, 1)
    with pytest.raises(ValueError, match=message):
        built(features, features, **options)
    built(features, features, stage=-1)
