"""Margins are counted, and only what the teacher says is matched."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekd.data import Batch
from edgekd.errors import RecipeError
from edgekd.features import Features
from edgekd.methods import Method
from edgekd.methods.ofd import OFD
from tests.methods.conftest import TARGETS

LOGITS = torch.zeros(6, 5)
REFERENCE = runpy.run_path(str(Path(__file__).parents[1] / "reference" / "ofd.py"))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def before(*maps: Tensor) -> Features:
    return Features(LOGITS.double(), preacts=maps)


def built(student: Features, teacher: Features, **options: Any) -> OFD:
    torch.manual_seed(0)
    made = OFD(**options)
    made.build(student, teacher, TARGETS)
    return made.double()


def margins(made: OFD, *widths: int) -> list[Tensor]:
    """What the margin ReLU makes of maps far below every margin."""
    assert made.of_teacher is not None
    found: tuple[Tensor, ...] = made.of_teacher([torch.full((1, w, 1, 1), -1e9) for w in widths])
    return [map.flatten() for map in found]


def through_nothing(made: OFD) -> OFD:
    """With the student's maps taken as they are."""
    made.adapters = nn.ModuleList(nn.Identity() for _ in made.adapters)
    return made


def test_a_margin_is_the_mean_of_what_a_channel_says_below_0(batch: Batch) -> None:
    teacher = before(noise(6, 4, 5, 3), noise(6, 7, 2, 2, seed=1) - 0.5)
    made = built(teacher, teacher)
    halves = slice(2), slice(2, 6)  # batches need not be of one size
    for half in halves:
        loss = made.study(before(*(map[half] for map in teacher.preacts)), batch)
        assert loss == 0
        assert not loss.requires_grad
    for map, found in zip(teacher.preacts, margins(made, 4, 7), strict=True):
        for c in range(map.shape[1]):
            first, second = (map[half, c][map[half, c] < 0] for half in halves)
            fading = 0.99 * len(first)
            expected = (0.99 * first.sum() + second.sum()) / (fading + len(second))
            assert float(found[c]) == pytest.approx(float(expected), rel=1e-12)


def test_maps_a_peer_no_longer_shows_do_not_decide(batch: Batch) -> None:
    now = before(noise(6, 4, 5, 3))
    once = before(10 * now.preacts[0])
    made = built(now, now)
    for features, batches in ((once, 500), (now, 1000)):
        for _ in range(batches):
            made.study(features, batch)
    expected = torch.stack([c[c < 0].mean() for c in now.preacts[0].transpose(0, 1)])
    assert torch.allclose(margins(made, 4)[0], expected, rtol=0.01)
    for _ in range(100):  # nor does the latest batch alone
        made.study(once, batch)
    share = 1 - 0.99**100
    mixed = (1 - share) * expected + share * 10 * expected
    assert torch.allclose(margins(made, 4)[0], mixed, rtol=0.01)
    assert "fading=0.99" in repr(made.of_teacher)  # margins counted otherwise are not taken


def test_seeing_the_images_again_changes_no_margin(batch: Batch) -> None:
    teacher = before(noise(6, 4, 5, 3))
    made = built(teacher, teacher)
    made.study(teacher, batch)
    once = margins(made, 4)[0]
    made.study(teacher, batch)
    assert torch.allclose(margins(made, 4)[0], once, rtol=1e-12)


def test_a_channel_that_is_never_below_0_has_no_margin(batch: Batch) -> None:
    teacher = before(noise(6, 3, 4, 4) * torch.tensor([1, 0, 1])[:, None, None])
    teacher.preacts[0][:, 2].abs_()
    made = built(teacher, teacher)
    made.study(teacher, batch)
    found = margins(made, 3)[0]
    assert found[0] < -0.1
    assert found[1:].tolist() == [0, 0]


def test_without_a_study_the_margin_relu_is_a_relu() -> None:
    teacher = before(noise(6, 3, 4, 4))
    made = built(teacher, teacher)
    assert made.of_teacher is not None
    assert torch.equal(made.of_teacher(teacher.preacts)[0], teacher.preacts[0].relu())


def test_the_margins_of_a_teacher_serve_every_student(batch: Batch) -> None:
    teacher = before(noise(6, 3, 8, 8), noise(6, 4, 4, 4))
    one = built(before(noise(6, 5, 2, 2)), teacher)
    many = built(before(*(noise(6, 2, 9, 9) for _ in range(4))), teacher)
    one.study(teacher, batch)
    assert one.of_teacher is not None
    assert many.of_teacher is not None
    many.of_teacher.load_state_dict(one.of_teacher.state_dict())
    assert torch.equal(margins(many, 3, 4)[1], margins(one, 3, 4)[1])
    assert not list(one.of_teacher.parameters())  # nothing for an optimiser


def test_only_what_the_teacher_says_or_the_student_says_too_much_of_counts(batch: Batch) -> None:
    teacher = torch.tensor([2.0, 2.0, -1.0, -1.0, -3.0]).reshape(1, 1, 1, 5)
    student = torch.tensor([1.0, 3.0, -2.0, 0.5, 0.0]).reshape(1, 1, 1, 5).requires_grad_()
    made = through_nothing(built(before(student), before(teacher)))
    made.study(before(teacher), batch)  # the margin is -5/3
    loss = made(before(student), before(teacher), batch)
    heard = torch.tensor([-1.0, 1.0, 0.0, 1.5, 5 / 3])
    assert loss.item() == pytest.approx(float(heard.square().mean()))
    gradient = torch.autograd.grad(loss, student)[0].flatten()
    assert torch.allclose(gradient, 2 * heard / 5)


def test_without_relu_all_of_it_counts_and_nothing_is_studied(batch: Batch) -> None:
    student, teacher = before(noise(6, 3, 4, 4)), before(noise(6, 3, 4, 4, seed=1))
    made = through_nothing(built(student, teacher, relu=False))
    expected = (student.preacts[0] - teacher.preacts[0]).square().mean()
    assert made.of_teacher is None
    assert torch.allclose(made(student, teacher, batch), expected)


@pytest.mark.parametrize(
    "sizes", [[(8, 8), (4, 4)], [(6, 10), (3, 5)], [(1, 1)], [(5, 3), (7, 2), (1, 4)]]
)
def test_with_margins_the_loss_is_the_paper_s(sizes: list[tuple[int, int]], batch: Batch) -> None:
    student = before(noise(6, 4, 8, 8), noise(6, 5, 4, 6))
    teacher = before(*(noise(6, 7 + i, *size, seed=i) for i, size in enumerate(sizes)))
    made = built(student, teacher)
    made.study(teacher, batch)
    learned = {key: value.clone().numpy() for key, value in made.state_dict().items()}
    plain = [
        SimpleNamespace(preacts=[map.numpy() for map in f.preacts]) for f in (student, teacher)
    ]
    expected = REFERENCE["loss"](*plain, batch, learned)
    assert made(student, teacher, batch).item() == pytest.approx(expected, rel=1e-10)


def test_maps_behind_the_activation_are_not_looked_at(
    batch: Batch, shown: Callable[..., Features]
) -> None:
    features = shown([(4, 8), (6, 4)], 1).mapped(Tensor.double)
    made = built(features, features)
    expected = made(features, features, batch)
    other = replace(features, stages=tuple(map + 1 for map in features.stages))
    assert torch.equal(made(other, other, batch), expected)


def test_networks_that_show_no_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="expected feature maps of both networks"):
        OFD().build(before(), before(), TARGETS)


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_a_relu_that_is_neither_true_nor_false_is_refused(value: Any) -> None:
    with pytest.raises(RecipeError, match="method 'ofd': relu must be true or false, got"):
        Method.from_table({"ofd": {"relu": value}})
