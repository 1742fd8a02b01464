"""Inheritance and exploration: the split, the two pulls, and what each of them reaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Method, Term
from edgekd.methods.iekd import IEKD
from tests.methods.conftest import TARGETS

Shown = Callable[..., Features]
Built = Callable[[Term, Features, Features], Term]
STUDENT, TEACHER = [(4, 8), (9, 4)], [(5, 8), (16, 6)]
FLAVOURS = ["ft", "at"]


@pytest.fixture
def student(shown: Shown) -> Features:
    return shown(STUDENT, 1, grad=True)


@pytest.fixture
def teacher(shown: Shown) -> Features:
    return shown(TEACHER, 2)


@pytest.fixture
def make(student: Features, teacher: Features, built: Built) -> Callable[..., IEKD]:
    def made(**options: Any) -> IEKD:
        term = built(IEKD(**options), student, teacher)
        assert isinstance(term, IEKD)
        return term

    return made


Make = Callable[..., IEKD]


def orders(made: IEKD) -> list[list[int]]:
    return [parts.get_buffer("order").tolist() for parts in made.parts]


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("split", ["natural", "random"])
def test_the_parts_are_disjoint_complete_and_saved(flavour: str, split: str, make: Make) -> None:
    made = make(flavour=flavour, split=split)
    channels = [9] if flavour == "ft" else [4, 9]
    assert [sorted(order) for order in orders(made)] == [list(range(c)) for c in channels]
    assert (orders(made)[-1] == list(range(9))) is (split == "natural")
    last = made.parts[-1](torch.arange(9.0).view(1, 9, 1, 1))
    assert [part.flatten().tolist() for part in last] == [
        orders(made)[-1][:4],
        orders(made)[-1][4:],
    ]
    other = make(flavour=flavour)
    other.load_state_dict(made.state_dict())
    assert orders(other) == orders(made)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("split", ["natural", "random"])
def test_each_pull_reaches_its_own_part_alone(
    flavour: str,
    split: str,
    make: Make,
    student: Features,
    teacher: Features,
    batch: Batch,
) -> None:
    for options, part in [({"explore": 0.0}, slice(4)), ({"inherit": 0.0}, slice(4, None))]:
        made = make(flavour=flavour, split=split, **options)
        map = student.stages[-1]
        (gradient,) = torch.autograd.grad(made(student, teacher, batch), map)
        reached = gradient.abs().sum((0, 2, 3)).nonzero().flatten().tolist()
        assert reached == sorted(orders(made)[-1][part])


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("scale", ["dimfree", "paper"])
def test_parts_that_look_alike_pull_against_each_other(
    flavour: str, scale: str, make: Make, shown: Shown, built: Built, batch: Batch
) -> None:
    """Inheritance and exploration are one distance, with opposite signs."""
    half, teacher = shown([(3, 8), (4, 4)], 1), shown(TEACHER, 2)
    twins = replace(half, stages=tuple(torch.cat([map, map], dim=1) for map in half.stages))
    made = built(IEKD(flavour=flavour, scale=scale), twins, teacher)
    assert isinstance(made, IEKD)
    if flavour == "ft":
        assert isinstance(made.exploring, nn.Module)
        made.exploring.load_state_dict(made.inheriting.state_dict())
    assert made(twins, teacher, batch).abs() < 1e-6
    made.explore = 0.0
    alone = made(twins, teacher, batch).detach()
    assert alone > 1e-3
    made.inherit, made.explore = 0.0, 1.0
    assert torch.allclose(made(twins, teacher, batch), -alone)


def test_without_weights_nothing_is_taught(
    make: Make, student: Features, teacher: Features, batch: Batch
) -> None:
    made = make(inherit=0.0, explore=0.0)
    (gradient,) = torch.autograd.grad(made(student, teacher, batch), student.stages[-1])
    assert not gradient.any()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_step_brings_the_one_part_nearer_and_the_other_farther(
    flavour: str, make: Make, student: Features, teacher: Features, batch: Batch
) -> None:
    made = make(flavour=flavour)
    near_to, far_from = make(flavour=flavour, explore=0.0), make(flavour=flavour, inherit=0.0)

    def distances(features: Features) -> list[float]:
        losses = near_to(features, teacher, batch), -far_from(features, teacher, batch)
        return [float(loss.detach()) for loss in losses]

    near, far = distances(student)
    gradients = torch.autograd.grad(
        made(student, teacher, batch), student.stages, allow_unused=True
    )
    moved = tuple(
        map if gradient is None else map - 0.5 * gradient
        for map, gradient in zip(student.stages, gradients, strict=True)
    )
    nearer, farther = distances(replace(student, stages=moved))
    assert nearer < near
    assert farther > far


def test_the_coders_are_the_authors(shown: Shown, built: Built) -> None:
    """Their widths for CIFAR: 64 channels of the teacher and 32 of each half become 32."""
    student, teacher = shown([(64, 4)], 1), shown([(64, 4)], 2)
    made = built(IEKD(), student, teacher)
    assert isinstance(made, IEKD)

    def count(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(made.of_teacher.encoder) == 64_768
    assert count(made.of_teacher) == 129_600
    assert count(made.inheriting) == count(made.exploring) == 27_840
    spread = made.inheriting[0].weight
    assert isinstance(spread, Tensor)
    assert float(spread.detach().std()) == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.03)


@pytest.mark.parametrize(("factor_dim", "channels"), [(0, 4), (7, 7)])
def test_factors_are_as_wide_as_asked_and_of_the_smaller_map_s_size(
    factor_dim: int, channels: int, make: Make, teacher: Features
) -> None:
    made = make(factor_dim=factor_dim)
    assert made.of_teacher(teacher.stages[-1]).shape == (6, channels, 4, 4)
    assert "grid=(4, 4)" in repr(made.of_teacher)  # it is another factor for another student


def test_a_student_with_the_larger_map_is_averaged_down(
    shown: Shown, built: Built, batch: Batch
) -> None:
    student, teacher = shown([(8, 6)], 1), shown([(16, 4)], 2)
    made = built(IEKD(), student, teacher)
    pooled = nn.functional.adaptive_avg_pool2d(student.stages[-1], 4)
    same = made(replace(student, stages=(pooled,)), teacher, batch)
    assert torch.equal(made(student, teacher, batch), same)


@pytest.mark.parametrize("reconstruction", ["l1", "l2"])
def test_study_rebuilds_the_map_better_than_nothing_would(
    reconstruction: str, make: Make, teacher: Features, batch: Batch
) -> None:
    made = make(reconstruction=reconstruction)
    divided = teacher.stages[-1] / teacher.stages[-1].square().mean().sqrt()
    pooled = nn.functional.adaptive_avg_pool2d(divided, 4)
    nothing = pooled.abs().mean() if reconstruction == "l1" else pooled.square().mean()
    optimiser = torch.optim.SGD(made.of_teacher.parameters(), made.study_lr, momentum=0.9)
    for _ in range(100):
        optimiser.zero_grad()
        torch.autograd.backward(made.study(teacher, batch))
        optimiser.step()
    assert made.study(teacher, batch) < 0.9 * nothing
    assert all(
        not key.startswith("of_t") or p.grad is not None for key, p in made.named_parameters()
    )


@pytest.mark.parametrize("times", [0.01, 10, 100])
def test_the_error_and_the_factor_do_not_depend_on_how_large_maps_are(
    times: float, student: Features, teacher: Features, batch: Batch, built: Built
) -> None:
    other = teacher.mapped(lambda tensor: times * tensor)
    made, scaled = (built(IEKD(), student, shown) for shown in (teacher, other))
    for term, shown in ((made, teacher), (scaled, other)):
        assert isinstance(term, IEKD)
        optimiser = torch.optim.SGD(term.of_teacher.parameters(), term.study_lr, momentum=0.9)
        for _ in range(10):
            optimiser.zero_grad()
            torch.autograd.backward(term.study(shown, batch))
            optimiser.step()
    assert torch.allclose(scaled.study(other, batch), made.study(teacher, batch), rtol=1e-3)
    losses = made(student, teacher, batch), scaled(student, other, batch)
    assert torch.allclose(*losses, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("reconstruction", ["l1", "l2"])
def test_the_study_is_the_authors_in_plain_loops(
    reconstruction: str, student: Features, teacher: Features, batch: Batch, built: Built
) -> None:
    """Convolution, normalisation by the batch, leaky rectifier: three there, three back."""
    student, teacher = (features.mapped(Tensor.double) for features in (student, teacher))
    made = built(IEKD(reconstruction=reconstruction), student, teacher).double()
    assert isinstance(made, IEKD)
    state = {key: value.clone().numpy() for key, value in made.of_teacher.state_dict().items()}
    maps = teacher.stages[-1].numpy()
    places = [slice(0, 2), slice(1, 3), slice(3, 5), slice(4, 6)]  # of 6x6 as 4x4
    pooled = [[maps[:, :, y, x].mean((2, 3)) for x in places] for y in places]
    grid = wanted = np.transpose(pooled, (2, 3, 0, 1)) / np.sqrt(np.mean(maps**2))
    for part in ("encoder", "decoder"):
        for i in (0, 3, 6):
            grid = normalised(convolved(grid, state[f"{part}.{i}.weight"]))
            grid = np.where(grid > 0, grid, 0.1 * grid)
    error = np.abs(grid - wanted) if reconstruction == "l1" else (grid - wanted) ** 2
    found = float(made.study(teacher, batch).detach())
    assert found == pytest.approx(float(error.mean()), rel=1e-10)


def convolved(maps: Any, weight: Any) -> Any:
    """3x3 convolution of (B, C, H, W), with a border of zeros."""
    size, _, h, w = maps.shape
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((size, len(weight), h, w))
    for i, j in np.ndindex(3, 3):
        out += np.einsum("kc,bchw->bkhw", weight[:, :, i, j], padded[..., i : i + h, j : j + w])
    return out


def normalised(maps: Any) -> Any:
    """Each channel by its mean and variance over the batch; gains are 1 and shifts 0 at first."""
    return (maps - maps.mean((0, 2, 3), keepdims=True)) / np.sqrt(
        maps.var((0, 2, 3), keepdims=True) + 1e-5
    )


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_inheriting_half_that_is_all_zero_gets_a_gradient_of_sane_size(
    flavour: str, make: Make, student: Features, teacher: Features, batch: Batch
) -> None:
    """Normalising a batch of zeros alone makes it thousands; an epsilon in the length, 1e16."""
    dead = student.mapped(Tensor.detach)
    for map in dead.stages:
        map[:, : map.shape[1] // 2] = 0
        map.requires_grad_()
    loss = make(flavour=flavour)(dead, teacher, batch)
    (gradient,) = torch.autograd.grad(loss, dead.stages[-1])
    assert gradient.abs().max() < 1e5


def test_what_was_studied_stays_as_it_is_statistics_included(
    make: Make, student: Features, teacher: Features, batch: Batch
) -> None:
    made = make()
    made.of_teacher.requires_grad_(False)
    made.train()
    before = {key: value.clone() for key, value in made.state_dict().items()}
    made(student, teacher, batch).backward()
    for key, value in made.state_dict().items():
        moved = not torch.equal(value, before[key])
        assert moved is (not key.startswith("of_t") and ("running" in key or "num_b" in key)), key


def test_a_frozen_teacher_s_factor_of_an_image_does_not_depend_on_the_batch(
    make: Make, teacher: Features
) -> None:
    made = make()
    made.of_teacher.requires_grad_(False)
    map = teacher.stages[-1]
    assert not torch.allclose(made.of_teacher(map[:3]), made.of_teacher(map)[:3], atol=1e-3)
    made.train()
    assert torch.allclose(made.of_teacher(map[:3]), made.of_teacher(map)[:3], atol=1e-6)


@pytest.mark.parametrize(("guard", "learns"), [("shared", True), ("shared_frozen", False)])
def test_a_guarded_exploration_moves_the_student_and_not_its_encoder(
    guard: str, learns: bool, shown: Shown, teacher: Features, batch: Batch, built: Built
) -> None:
    student = shown([(4, 8), (8, 4)], 1, grad=True)
    made = built(IEKD(guard=guard, inherit=0.0), student, teacher)
    assert isinstance(made, IEKD)
    assert "exploring" not in dict(made.named_children())
    made(student, teacher, batch).backward()
    taught = [p.grad is not None and bool(p.grad.any()) for p in made.inheriting.parameters()]
    assert taught == [learns] * 9
    reached = student.stages[-1].grad
    assert reached is not None
    assert reached[:, 4:].any()


def test_a_peer_s_encoder_learns_from_it_and_sends_it_nothing(shown: Shown, batch: Batch) -> None:
    student, peer = shown(STUDENT, 1, grad=True), shown(TEACHER, 2, grad=True)
    method = Method.parse("ce + kd + iekd")
    method.build(student, peer, TARGETS)
    method.with_peer = True
    losses = method(student, peer.detached(), batch)
    torch.autograd.backward(list(losses.values()))
    assert all(stage.grad is None for stage in peer.stages)
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert student.stages[-1].grad is not None


def test_attention_learns_nothing_beforehand(make: Make) -> None:
    made = make(flavour="at")
    assert getattr(made, "of_teacher", None) is None
    assert not list(made.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flavour": "od"}, "flavour must be one of ft, at, got 'od'"),
        ({"split": "half"}, "split must be one of natural, random, got 'half'"),
        ({"guard": "none"}, "guard must be one of own, shared, shared_frozen, got 'none'"),
        ({"scale": 1}, "scale must be one of dimfree, paper, got 1"),
        ({"reconstruction": "ssim"}, "reconstruction must be one of l1, l2, got 'ssim'"),
        ({"ratio": 1.0}, "ratio must be between 0 and 1, got 1.0"),
        ({"inherit": -1.0}, "inherit must be a number of at least 0, got -1.0"),
        ({"explore": float("nan")}, "explore must be a number of at least 0, got nan"),
        ({"factor_dim": 2.5}, "factor_dim must be a whole number from 0 up, got 2.5"),
        ({"study_share": 0.0}, r"study_share must be in \(0, 1\], got 0.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IEKD(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.05}, "ratio 0.05 of 9 channels leaves a part empty"),
        ({"guard": "shared"}, "needs two parts of one size, got 4 and 5 channels"),
        ({"guard": "shared_frozen", "ratio": 0.3}, "got 2 and 7 channels; take ratio = 0.5"),
    ],
)
def test_parts_that_cannot_be_made_are_refused(
    options: dict[str, Any], message: str, make: Make
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_attention_needs_places_to_tell_apart(shown: Shown) -> None:
    flat = shown([(4, 2), (8, 1)], 1), shown([(4, 1), (8, 1)], 2)
    with pytest.raises(ValueError, match="at least 2x2 places, got 1x1, 1x1"):
        IEKD(flavour="at").build(*flat, TARGETS)
    IEKD().build(*flat, TARGETS)  # factors do not
