"""Attention transfer: where it looks, what it makes of zeros, and how its sum compares."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods.at import AT
from tests.methods.conftest import TARGETS

Shown = Callable[..., Features]


def of(*stages: Tensor) -> Features:
    return Features(torch.zeros(len(stages[0]), 5), stages=stages)


def noise(shape: Sequence[int], seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(6, *shape, generator=source, dtype=torch.float64)


def loss(student: Features, teacher: Features, batch: Batch, **options: Any) -> Tensor:
    found: Tensor = AT(**options)(student, teacher, batch)
    return found


@pytest.mark.parametrize(("side", "factor"), [(32, 1.0), (16, 3.9), (8, 15.6)])
def test_the_authors_factor_is_as_many_times_this_sum_as_is_said(
    side: int, factor: float, batch: Batch
) -> None:
    s, t = noise((3, side, side), 1), noise((5, side, side), 2)
    q = [F.normalize(map.square().mean(1).flatten(1)) for map in (s, t)]
    theirs = 1000 * (q[0] - q[1]).square().mean()
    assert float(theirs / loss(of(s), of(t), batch)) == pytest.approx(factor, rel=0.03)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_places_of_exactly_zero_have_a_finite_gradient(power: float, batch: Batch) -> None:
    s = noise((3, 4, 4), 1).relu()  # half of it 0,
    s[:, :, 0] = 0  # some places whole,
    s[0] = 0  # and an image
    s.requires_grad_()
    loss(of(s), of(noise((5, 4, 4), 2)), batch, power=power).backward()  # type: ignore[no-untyped-call]
    assert s.grad is not None
    assert s.grad.isfinite().all()
    assert s.grad.abs().sum() > 0


def test_neither_signs_nor_channels_nor_the_size_of_the_numbers_matter(batch: Batch) -> None:
    s, t = noise((4, 6, 5), 1), noise((4, 6, 5), 2)
    plain = loss(of(s), of(t), batch)
    for same in (-s, s.flip(1), 7 * s, torch.cat([s, s], 1)):
        assert torch.allclose(loss(of(same), of(t), batch), plain)
    assert not torch.allclose(loss(of(s.flip(2)), of(t), batch), plain)


def test_maps_of_one_place_are_left_out_and_no_others_refused(batch: Batch) -> None:
    s, t = noise((4, 6, 6), 1), noise((3, 4, 4), 2)
    ended = of(s, noise((8, 1, 1), 4)), of(t, noise((9, 1, 1), 5))
    assert torch.equal(loss(*ended, batch), loss(of(s), of(t), batch))
    flat = of(noise((8, 1, 1), 3))
    with pytest.raises(ValueError, match="at least 2x2 places, got 1x1; give larger images"):
        AT().build(flat, flat, TARGETS)


@pytest.mark.parametrize("power", [-1, 0, 0.5, 0.999, float("nan")])
def test_a_power_below_1_is_refused(power: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"power must be at least 1, got {power}")):
        AT(power=power)
