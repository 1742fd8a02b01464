"""What the reconstruction of RTK promises."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods._attention import MOST, block_maps, distances, energies, unit
from edgekd.methods.rtk import (
    RTK,
    at_smallest_size,
    imbalance,
    keys_kept,
    prototype,
    representative,
    smaller,
)

Shape = tuple[int, int, int]
STUDENT: list[Shape] = [(3, 12, 8), (5, 6, 4), (5, 6, 4), (7, 3, 2)]
TEACHER: list[Shape] = [(8, 10, 9), (4, 10, 9), (6, 5, 5), (9, 5, 5), (16, 3, 2), (16, 3, 2)]
DONE = Batch(torch.zeros(4, 3, 8, 8), torch.zeros(4).long(), torch.arange(4), 1.0)


def maps(shapes: Sequence[Shape], seed: int, grad: bool = False) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    noise = [torch.randn(4, *shape, generator=source, dtype=torch.float64) for shape in shapes]
    return [map.requires_grad_(grad) for map in noise]


def of(blocks: Sequence[Tensor]) -> Features:
    return Features(torch.zeros(4, 5), blocks=tuple((block,) for block in blocks))


def built(term: RTK, student: Features, teacher: Features) -> RTK:
    torch.manual_seed(0)
    term.build(student, teacher, DONE.target)
    return term.double()


def likeness() -> Tensor:
    return torch.randn(4, 5, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scope", ["sample", "batch"])
def test_exactly_k_keys_share_the_attention(scope: str) -> None:
    a = representative(likeness(), 3, scope)
    assert (a >= 0).all()
    assert torch.allclose(a.sum(2), torch.ones(4, 5))
    assert ((a > 0).sum(2) == 3).all()
    one_set = bool(((a > 0) == (a[:1] > 0)).all())
    assert one_set is (scope == "batch")


def test_the_most_similar_keys_are_kept_and_all_of_them_are_a_plain_softmax() -> None:
    l = likeness()  # noqa: E741
    kept, left = representative(l, 3, "sample") > 0, representative(l, 3, "sample") == 0
    assert (l.masked_fill(left, math.inf).amin(2) > l.masked_fill(kept, -math.inf).amax(2)).all()
    assert torch.equal(representative(l, 9, "sample"), l.softmax(2))


def test_maps_alike_cost_nothing_where_only_the_key_of_the_same_place_is_kept() -> None:
    same = maps(STUDENT, 1)
    term = built(RTK(k=1), of(same), of(same))
    for parameter in term.parameters():
        parameter.data.zero_()
    for place in (term.similarity.student_place, term.similarity.teacher_place):
        place.data.fill_diagonal_(50)
    assert term(of(same), of(same), DONE) < 1e-12
    assert term(of(same), of(maps(STUDENT, 2)), DONE) > 0.01


def test_distances_are_those_of_one_pair_at_a_time() -> None:
    s, t = maps(STUDENT, 1), maps(TEACHER, 2)
    D = distances(energies(s), energies(t), smaller)
    assert (D >= 0).all()
    assert (D <= 2).all()
    for i, a in enumerate(s):
        for j, b in enumerate(t):
            size = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
            q = [F.adaptive_avg_pool2d(m.square().mean(1), size).flatten(1) for m in (a, b)]
            difference = F.normalize(q[0], dim=1) - F.normalize(q[1], dim=1)
            assert torch.allclose(D[:, i, j], difference.square().sum(1))


def test_distances_see_neither_scale_nor_the_order_of_channels_nor_a_finer_copy() -> None:
    s, t = maps(STUDENT, 1), maps(STUDENT, 2)
    D = distances(energies(s), energies(t), smaller)
    scaled = [7 * map.flip(1) for map in s]
    assert torch.allclose(distances(energies(scaled), energies(t), smaller), D)
    fine = [
        [F.interpolate(map, scale_factor=2) for map in (a, b)] for a, b in zip(s, t, strict=True)
    ]
    for i, (a, b) in enumerate(fine):  # equal sizes before, so equal sizes after
        assert torch.allclose(distances(energies([a]), energies([b]), smaller)[:, 0, 0], D[:, i, i])


def test_an_empty_map_is_1_away_and_has_a_gradient() -> None:
    empty = torch.zeros(4, 3, 6, 4, dtype=torch.float64, requires_grad=True)
    D = distances(energies([empty]), energies(maps(TEACHER, 2)), smaller)
    assert torch.allclose(D, torch.ones_like(D))
    torch.autograd.backward(D.sum())
    assert empty.grad is not None
    assert empty.grad.isfinite().all()


def test_every_map_of_the_student_learns_and_so_do_queries_and_keys() -> None:
    s, t = maps(STUDENT, 1, grad=True), maps(TEACHER, 2)
    term = built(RTK(), of(s), of(t))
    term(of(s), of(t), DONE).backward()
    for map in [*s, *term.similarity.parameters()]:
        assert map.grad is not None
        assert map.grad.isfinite().all()
        assert map.grad.abs().sum() > 0


def test_keys_nobody_keeps_learn_nothing() -> None:
    s, t = maps(STUDENT, 1), maps(TEACHER, 2)
    term = built(RTK(k=3, scope="batch"), of(s), of(t))
    places = term.similarity.student_place.data, term.similarity.teacher_place.data
    for place in places:
        place.zero_()
    places[0][:, 0], places[1][:3, 0] = 100, 100  # so that all keep the first three
    term(of(s), of(t), DONE).backward()
    heads = term.similarity.teacher.linear
    moved = [
        any(bool(p.grad.any()) for p in head.parameters() if p.grad is not None) for head in heads
    ]
    assert moved == [True] * 3 + [False] * 3


def test_the_filter_closes_in_the_warm_up() -> None:
    assert [keys_kept(9, 27, e / 240, 24 / 240) for e in (0, 12, 24, 240)] == [27, 18, 9, 9]
    counts = [keys_kept(0, 27, i / 1000, 0.1) for i in range(1001)]
    assert counts == sorted(counts, reverse=True)
    assert {counts[0], counts[-1]} == {27, 9}
    assert keys_kept(2, 27, 0.0, 0.0) == 2
    assert [keys_kept(0, keys, 1.0, 0.1) for keys in (18, 4, 3)] == [6, 2, 1]


def test_a_learned_similarity_warms_up_and_one_of_the_maps_need_not() -> None:
    s, t = of(maps(STUDENT, 1)), of(maps(TEACHER, 2))
    start = Batch(DONE.image, DONE.target, DONE.index, 0.0)
    assert torch.equal(built(RTK(k=1), s, t)(s, t, start), built(RTK(k=6), s, t)(s, t, DONE))
    by_map = built(RTK(k=1, sim="map"), s, t)
    assert not list(by_map.parameters())
    assert torch.equal(by_map(s, t, start), by_map(s, t, DONE))


def test_a_similarity_of_the_maps_weighs_and_is_not_learned() -> None:
    s, t = maps(STUDENT, 1, grad=True), maps(TEACHER, 2)
    found = torch.autograd.grad(built(RTK(k=3, sim="map"), of(s), of(t))(of(s), of(t), DONE), s)
    D = distances(energies(s), energies(t), smaller)
    a = representative((1 - D.detach() / 2) / 0.1, 3, "sample")
    expected = torch.autograd.grad((a * D).sum(2).mean(), s)
    assert all(torch.allclose(f, e) for f, e in zip(found, expected, strict=True))


def test_pairs_are_the_prototype_and_the_variance_around_it() -> None:
    s, t = at_smallest_size(energies(maps(STUDENT, 1)), energies(maps(TEACHER, 2)))
    D = distances(s, t, smaller)
    a = representative(
        torch.randn(D.shape, generator=torch.Generator().manual_seed(0)), 3, "sample"
    )
    a = a.double()
    values = unit(t[0], (3, 2))
    variance = a @ values.square().sum(2, keepdim=True) - (a @ values).square().sum(2, keepdim=True)
    assert (variance > 0).all()
    one = prototype(a.double(), s[0], t[0])
    assert torch.allclose((a * D).sum(2), one + variance.squeeze(2))


def test_imbalance_is_0_only_where_all_keys_are_used_alike() -> None:
    assert imbalance(torch.full((4, 3, 5), 0.2)).abs() < 1e-6
    one_key = F.one_hot(torch.zeros(4, 3).long(), 5).float().requires_grad_()
    value = imbalance(one_key)
    assert value.item() == pytest.approx(math.log(5))
    torch.autograd.backward(value)
    assert one_key.grad is not None
    assert one_key.grad.isfinite().all()


def test_one_query_for_all_keys_needs_fewer_parameters() -> None:
    """ResNet-56 to ResNet-20: 207,232 with the biases in front of norms, of which there are 37."""
    s, t = ([(c, 2, 2) for c in (16, 32, 64) for _ in range(n)] for n in (3, 9))
    counts = []
    for bilinear in (False, True):
        term = RTK(bilinear=bilinear)
        term.build(of(maps(s, 1)), of(maps(t, 2)), DONE.target)
        counts.append(sum(parameter.numel() for parameter in term.parameters()))
    assert counts == [207_232 - 37 * 128, 643_200 - 63 * 128]


def test_every_second_of_many_maps_takes_part_and_the_last_always() -> None:
    every = [torch.full((1, 1, 2, 2), float(i)) for i in range(54)]
    kept = [int(map.mean()) for map in block_maps(of(every))]
    assert kept == list(range(1, 54, 2))
    assert len(block_maps(of(every[:MOST]))) == MOST


def test_maps_of_one_place_are_left_out() -> None:
    s, t = maps(STUDENT, 1), maps(TEACHER, 2)
    term = built(RTK(), of(s), of(t))
    more = torch.randn(4, 9, 1, 1, dtype=torch.float64)
    assert torch.equal(term(of([*s, more]), of([*t, more]), DONE), term(of(s), of(t), DONE))
    with pytest.raises(ValueError, match="at least 2x2 places, got 1x1; give larger images"):
        RTK().build(of([more]), of(t), DONE.target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim must be a whole number of 1 or more, got 0"),
        ({"k": 1.5}, "k must be a whole number of 0 or more, got 1.5"),
        ({"k": 7}, "k must be at most 6, the number of teacher maps, got 7"),
        ({"scope": "all"}, "scope must be one of sample, batch, got all"),
        ({"sim": "cosine"}, "sim must be one of learned, map, got cosine"),
        ({"match": "all"}, "match must be one of pairwise, prototype, got all"),
        ({"balance": -1.0}, "balance must be 0 or more, got -1.0"),
        ({"bilinear": 1}, "bilinear must be true or false, got 1"),
        ({"warmup": 1.1}, r"warmup must be in \[0, 1\], got 1.1"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RTK(**options).build(of(maps(STUDENT, 1)), of(maps(TEACHER, 2)), DONE.target)  # type: ignore[arg-type]
