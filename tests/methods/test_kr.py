"""What the reconstruction of KR promises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods.kr import KR, along, code, divergence, standard

Shape = tuple[int, int, int]
STUDENT: list[list[Shape]] = [[(18, 12, 8)], [(20, 6, 4), (20, 6, 4)], [(17, 3, 2)]]
TEACHER: list[list[Shape]] = [[(32, 10, 9)] * 3, [(48, 5, 5)], [(64, 3, 2)] * 2]
BATCH = Batch(torch.zeros(4, 3, 8, 8), torch.zeros(4).long(), torch.arange(4))


def shown(stages: Sequence[Sequence[Shape]], seed: int, grad: bool = False) -> Features:
    source = torch.Generator().manual_seed(seed)

    def noise(shape: Shape) -> Tensor:
        map = torch.randn(4, *shape, generator=source, dtype=torch.float64)
        return map.requires_grad_(grad)

    return of([[noise(shape) for shape in stage] for stage in stages])


def of(stages: Sequence[Sequence[Tensor]]) -> Features:
    return Features(torch.zeros(4, 5), blocks=tuple(tuple(stage) for stage in stages))


def codes(seed: int, grad: bool = False) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(4, 40, generator=source, dtype=torch.float64).requires_grad_(grad)


def loss(student: Features, teacher: Features, **options: float) -> Tensor:
    return KR(**options)(student, teacher, BATCH)  # type: ignore[arg-type, no-any-return]


def test_neither_scale_nor_order_nor_copies_of_the_maps_of_a_stage_matter() -> None:
    s, t = shown(STUDENT, 1), shown(TEACHER, 2)
    expected = loss(s, t)
    assert expected > 0.01
    turned = of([stage[::-1] for stage in t.blocks])
    copied = of([stage * 3 for stage in s.blocks])
    for student, teacher in ((s.mapped(lambda map: 9 * map), t), (s, turned), (copied, t)):
        assert torch.allclose(loss(student, teacher), expected)
    assert loss(copied, s) < 1e-12


def test_channels_may_change_places_within_a_group_but_not_across() -> None:
    s, t = shown([[(8, 6, 6)]], 1), shown([[(8, 6, 6)]], 2)
    within = s.mapped(lambda map: map[:, [1, 0, 3, 2, 5, 4, 7, 6]] if map.ndim == 4 else map)
    across = s.mapped(lambda map: map.flip(1))
    assert torch.allclose(loss(within, t, channels=4), loss(s, t, channels=4))
    assert not torch.allclose(loss(across, t, channels=4), loss(s, t, channels=4), rtol=1e-3)
    assert torch.allclose(loss(across, t, channels=1), loss(s, t, channels=1))


def test_dividing_channels_is_averaging_them() -> None:
    map = torch.randn(4, 32, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = F.adaptive_avg_pool2d(map.square().view(4, 16, 2, 8, 8).mean(2), 4)
    plain = plain.flatten(2).transpose(1, 2).flatten(1)
    assert torch.allclose(code(map, 16, (4, 4)), plain / plain.mean(1, keepdim=True))
    assert torch.allclose(code(map, 16, (4, 4)).mean(1), torch.ones(4))


def test_the_gradient_is_that_of_cross_entropy_on_the_kept_entries_alone() -> None:
    z, t, T, k = codes(1, grad=True), codes(2), 2.0, 10
    torch.autograd.backward(divergence(z, t, k / 40, T, 0.0))
    kept = t.topk(k, dim=1).indices
    p, q = ((c.gather(1, kept) / T).softmax(1) for c in (t, z.detach()))
    expected = torch.zeros_like(t).scatter(1, kept, T / 4 * (q - p))
    assert z.grad is not None
    assert torch.allclose(z.grad, expected)
    assert ((z.grad != 0).sum(1) == k).all()
    assert torch.allclose(z.grad.sum(1), torch.zeros(4, dtype=torch.float64))


def test_ties_leave_as_many_entries() -> None:
    z = codes(1, grad=True)
    tied = torch.ones(4, 40, dtype=torch.float64)
    torch.autograd.backward(divergence(z, tied, 0.1, 1.0, 0.0))
    assert z.grad is not None
    assert ((z.grad != 0).sum(1) == 4).all()


def test_keeping_everything_is_the_divergence_of_the_whole() -> None:
    z, t = codes(1), codes(2)
    whole = 4 * F.kl_div((z / 2).log_softmax(1), (t / 2).softmax(1), reduction="batchmean")
    assert torch.allclose(divergence(z, t, 1.0, 2.0, 0.0), whole)
    assert divergence(z, z, 0.3, 2.0, 0.0).abs() < 1e-12


def test_the_dead_zone_stops_gradients_and_changes_no_value() -> None:
    found = {}
    for zone in (0.0, 0.5, math.inf):
        z = codes(1, grad=True)
        value = divergence(z, codes(2), 0.5, 2.0, zone)
        torch.autograd.backward(value)
        assert z.grad is not None
        found[zone] = value.item(), int((z.grad != 0).sum())
    assert len({value for value, _ in found.values()}) == 1
    live = [count for _, count in found.values()]
    assert live[0] == 80
    assert 0 < live[1] < 80
    assert live[2] == 0


@pytest.mark.parametrize(("share", "live"), [(0.999, 2), (1.001, 0)])
def test_the_dead_zone_is_a_share_of_an_equal_part(share: float, live: int) -> None:
    t = torch.tensor([[5.0, 5.0, 0.0, 0.0, 0.0, 0.0]]).double()  # keeps two, of 1/2 each
    q = torch.tensor([0.6, 0.4]).double()  # both 0.1 off, which is 0.2 of 1/2
    z = torch.cat([q.log(), t[0, 2:]])[None].requires_grad_()
    torch.autograd.backward(divergence(z, t, 1 / 3, 1.0, share * 0.2))
    assert z.grad is not None
    assert int((z.grad != 0).sum()) == live


@pytest.mark.parametrize("fill", [0.0, 3.0])
def test_maps_without_a_pattern_are_finite(fill: float) -> None:
    s = shown(STUDENT, 1).mapped(lambda map: torch.full_like(map, fill).requires_grad_())
    value = loss(s, shown(TEACHER, 2))
    torch.autograd.backward(value)
    assert value.isfinite()
    for stage in s.blocks:
        for map in stage:
            assert map.grad is not None
            assert map.grad.isfinite().all()


def test_every_block_learns_whether_or_not_they_are_aggregated() -> None:
    for aggregate in (True, False):
        s = shown(STUDENT, 1, grad=True)
        torch.autograd.backward(loss(s, shown(TEACHER, 2), aggregate=aggregate))
        for stage in s.blocks:
            for map in stage:
                assert map.grad is not None
                assert map.grad.abs().sum() > 0


def test_aggregation_quiets_noise() -> None:
    source = torch.Generator().manual_seed(0)
    signal = 3 * F.interpolate(torch.rand(1, 16, 4, 4, generator=source), scale_factor=2)

    def spread(blocks: int) -> float:
        noisy = (signal + torch.randn(64, 16, 8, 8, generator=source) for _ in range(blocks))
        return standard([code(map, 16, (4, 4)) for map in noisy]).std(0).mean().item()

    assert spread(9) < 0.6 * spread(1)


def test_blocks_are_matched_by_their_relative_depth() -> None:
    teacher = [torch.tensor(i) for i in range(5)]
    assert [int(t) for t in along(teacher, 2)] == [2, 4]
    assert [int(t) for t in along(teacher, 5)] == [0, 1, 2, 3, 4]
    assert [int(t) for t in along(teacher[:2], 4)] == [0, 0, 1, 1]


def test_the_grid_follows_the_student_s_images() -> None:
    s, t = shown([[(4, 16, 16)]], 1), shown([[(4, 40, 40)]], 2)
    for size, grid in (((32, 32), 4), ((64, 64), 4), ((65, 65), 7), ((32, 224), 7), ((96, 8), 7)):
        batch = replace(BATCH, image=torch.zeros(4, 3, *size))
        assert torch.equal(KR()(s, t, batch), loss(s, t, grid=grid))
        assert not torch.equal(KR()(s, t, batch), loss(s, t, grid=5))
        assert torch.equal(KR(grid=5)(s, t, batch), loss(s, t, grid=5))


def test_stages_are_matched_from_the_coarse_end_and_those_of_one_place_left_out() -> None:
    s, t = shown(STUDENT, 1), shown(TEACHER, 2)
    flat = torch.randn(4, 9, 1, 1, dtype=torch.float64)
    ended = [of([*f.blocks, end]) for f, end in ((s, (flat,)), (t, (flat,)))]
    assert torch.equal(loss(*ended), loss(s, t))
    deeper = of([(torch.randn(4, 8, 20, 20).double(),), *t.blocks])
    assert torch.equal(loss(s, deeper), loss(s, t))
    for student, teacher, sizes in ((of([(flat,)]), t, "1x1"), (of([]), t, "none")):
        with pytest.raises(ValueError, match=f"at least 2x2 places, got {sizes}; give larger"):
            KR().build(student, teacher, BATCH.target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels must be a whole number of 1 or more, got 0"),
        ({"grid": -1}, "grid must be a whole number of 0 or more, got -1"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"keep": 0.0}, r"keep must be in \(0, 1\], got 0.0"),
        ({"keep": 1.5}, r"keep must be in \(0, 1\], got 1.5"),
        ({"dead_zone": -0.5}, "dead_zone must be 0 or more, got -0.5"),
        ({"aggregate": 1}, "aggregate must be true or false, got 1"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KR(**options)  # type: ignore[arg-type]
