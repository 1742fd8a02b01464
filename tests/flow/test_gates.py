"""Gates: arithmetic that decides whether hours are spent, and what is claimed afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.errors import GateError, UsageError
from edgekd.flow.gates import check_knowing, check_sizes, check_teacher, equal_cost_epochs, gain
from edgekd.models import Backbone
from edgekd.preprocess import Preprocess
from edgekd.trainer import Scores

LABELS = tuple("abcdefghij")


def backbone(width: int, size: int = 8, name: str = "net") -> Backbone:
    """A 3x3 convolution of ``width`` channels and a classifier: easy to count by hand."""
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10, bias=False),
    )
    return Backbone(name, model, Preprocess((size, size), (0.5,) * 3, (0.5,) * 3), LABELS)


def scores(right: int, n: int, most: int, classes: int = 10) -> Scores:
    """``right`` of ``n`` answers, where the most frequent class has ``most`` images."""
    rest = np.resize(np.arange(1, classes), n - most)
    targets = np.concatenate([np.zeros(most, int), rest]).astype(np.int64)
    predictions = np.where(np.arange(n) < right, targets, (targets + 1) % classes)
    return Scores(right / n, 1.0, 1.0, n, predictions, targets)


@pytest.mark.parametrize(
    ("right", "n", "most", "passes"),
    [
        (100, 1000, 100, False),  # exactly chance
        (144, 1000, 100, False),  # less than a twentieth of the way from there to perfection
        (146, 1000, 100, True),
        (900, 1000, 900, False),  # as good as always naming the frequent class
        (920, 1000, 900, False),  # better, but so might be one that is not
        (930, 1000, 900, True),
        (6, 30, 3, False),
        (15, 30, 3, True),
        (3, 10, 2, True),  # so few images prove nothing
    ],
)
def test_a_teacher_must_know_more_than_the_frequent_class(
    right: int, n: int, most: int, passes: bool
) -> None:
    found = scores(right, n, most)
    assert np.bincount(found.targets).max() == most
    if passes:
        check_teacher(backbone(8), found)
        return
    with pytest.raises(GateError, match="a teacher at chance teaches noise") as refused:
        check_teacher(backbone(8), found)
    assert f"right on {right / n:.1%} of {n} validation images" in str(refused.value)
    assert f"the most frequent class is right on {most / n:.1%}" in str(refused.value)
    assert refused.value.exit_code == 1


@pytest.mark.parametrize("n", [2, 8, 20, 40])
def test_few_images_never_refuse_a_perfect_teacher(n: int) -> None:
    check_teacher(backbone(4), scores(n, n, n // 2, classes=2))


def test_a_teacher_that_passes_and_knows_little_is_told() -> None:
    targets = np.arange(1000) % 10
    assert check_knowing("t", 300, targets) == ""
    little = check_knowing("t", 200, targets)
    assert little.startswith("the teacher t is right on 20.0% of 1000 validation images; naming")
    assert little.endswith("is right on 10.0%. That is little to learn from")
    assert "do not tell whether it knows anything" in check_knowing("t", 9, targets[:10])


def test_swapped() -> None:
    big, small = backbone(32, name="big"), backbone(4, name="small")
    check_sizes(teacher=big, student=small)
    check_sizes(teacher=big, student=big)
    with pytest.raises(UsageError, match=r"the student big .* larger than the teacher small"):
        check_sizes(teacher=small, student=big)


def test_more_computing_with_fewer_parameters_is_not_swapped() -> None:
    check_sizes(teacher=backbone(8, size=8), student=backbone(4, size=32))


def test_equal_cost() -> None:
    # a step costs three forward passes of the student, and one of the teacher when distilling
    student, teacher = backbone(4), backbone(24)
    assert student.macs() == 8 * 8 * 27 * 4 + 40
    assert teacher.macs() == 6 * student.macs()
    assert equal_cost_epochs(10, student.macs(), teacher.macs()) == 30
    assert equal_cost_epochs(10, student.macs(), student.macs()) == 13
    assert equal_cost_epochs(1, teacher.macs(), student.macs()) == 1


def test_gain_pairs_the_answers() -> None:
    student = np.array([True] * 70 + [True] * 8 + [False] * 2 + [False] * 20)
    alone = np.array([True] * 70 + [False] * 8 + [True] * 2 + [False] * 20)
    found = gain(student, alone, 30, "cost")
    assert found["delta"] == pytest.approx(0.06)
    assert found["interval"][0] < 0.06 < found["interval"][1]
    assert (found["n"], found["baseline_epochs"], found["basis"]) == (100, 30, "cost")
    # the same figures from answers that are not paired to each other are far less certain
    unpaired = gain(student, np.roll(alone, 40), 30, "cost")
    assert unpaired["delta"] == pytest.approx(0.06)
    width = found["interval"][1] - found["interval"][0]
    assert unpaired["interval"][1] - unpaired["interval"][0] > 1.5 * width
    turned = gain(alone, student, 30, "cost")
    assert turned["delta"] == pytest.approx(-0.06)
    assert turned["interval"] == pytest.approx([-end for end in reversed(found["interval"])])


def test_no_difference_is_not_certain() -> None:
    same = np.array([True] * 90 + [False] * 10)
    found = gain(same, same, 1, "epochs")
    assert found["delta"] == 0
    assert found["interval"][0] < 0 < found["interval"][1]


def test_counting_changes_nothing() -> None:
    network = backbone(8)
    before = [p.clone() for p in network.model.parameters()]
    network.macs()
    pairs = zip(before, network.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
