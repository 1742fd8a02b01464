"""What AFD promises."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods._attention import distances, energies
from edgekd.methods.afd import AFD, as_the_teacher

Shape = tuple[int, int, int]
STUDENT: list[Shape] = [(3, 12, 8), (5, 6, 4), (7, 3, 2)]
TEACHER: list[Shape] = [(8, 10, 9), (4, 10, 9), (6, 5, 5), (16, 3, 2)]
BATCH = Batch(torch.zeros(4, 3, 8, 8), torch.zeros(4).long(), torch.arange(4), 1.0)


def maps(shapes: Sequence[Shape], seed: int) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(4, *shape, generator=source, dtype=torch.float64) for shape in shapes]


def of(blocks: Sequence[Tensor]) -> Features:
    return Features(torch.zeros(4, 5), blocks=tuple((block,) for block in blocks))


def built(student: Features, teacher: Features, dim: int = 128) -> AFD:
    torch.manual_seed(0)
    term = AFD(dim)
    term.build(student, teacher, BATCH.target)
    return term.double()


def lin_bn(linear: nn.Module, vectors: Tensor, norm: nn.BatchNorm1d, own: slice) -> Tensor:
    """One layer's linear map and batch norm, as the paper draws it."""
    bias = None if norm.bias is None else norm.bias[own]
    return F.batch_norm(linear(vectors), None, None, norm.weight[own], bias, training=True)


def test_it_is_the_paper_s_double_loop() -> None:
    s, t, d = maps(STUDENT, 1), maps(TEACHER, 2), 16
    term = built(of(s), of(t), d)
    net = term.similarity
    for parameter in net.parameters():
        parameter.data = torch.randn_like(parameter)
    slices = [slice(i * d, (i + 1) * d) for i in range(len(t))]
    keys = [
        lin_bn(net.student.linear[i], map.mean((2, 3)), net.student.norm, slices[i]).relu()
        for i, map in enumerate(s)
    ]
    bilinear = lin_bn(net.mixed, torch.cat(keys), net.norm, slice(None)).chunk(len(s))
    expected = torch.zeros(4, dtype=torch.float64)
    for j, b in enumerate(t):
        query = lin_bn(net.teacher.linear[j], b.mean((2, 3)), net.teacher.norm, slices[j])
        logits, differences = [], []
        value = F.normalize(b.square().mean(1).flatten(1), dim=1)
        for i, a in enumerate(s):
            place = net.teacher_place[j] @ net.student_place[i]
            logits.append(((bilinear[i][:, slices[j]] * query).sum(1) + place) / d**0.5)
            resized = F.adaptive_avg_pool2d(a.square().mean(1), (b.shape[2], b.shape[3])).flatten(1)
            differences.append((F.normalize(resized, dim=1) - value).square().mean(1))
        expected += (torch.stack(logits, 1).softmax(1) * torch.stack(differences, 1)).sum(1)
    assert torch.allclose(term(of(s), of(t), BATCH), expected.mean(), rtol=1e-12)


def test_every_map_of_the_teacher_is_distilled() -> None:
    s, t = of(maps(STUDENT, 1)), maps(TEACHER, 2)
    once = built(s, of(t[:1]))(s, of(t[:1]), BATCH)
    again = built(s, of(t[:1] * 3))(s, of(t[:1] * 3), BATCH)
    assert again > 2 * once


def test_each_map_of_the_teacher_has_a_weight_of_1() -> None:
    """With equal student maps the attention cannot matter, so the loss is their distance."""
    s, t = maps(STUDENT[:1], 1) * 3, maps(TEACHER, 2)
    D = distances(energies(s), energies(t), as_the_teacher, mean=True)
    assert torch.allclose(built(of(s), of(t))(of(s), of(t), BATCH), D[:, 0].sum(1).mean())


def test_the_parameters_are_the_authors_without_those_that_do_nothing() -> None:
    """WRN-40-2 to WRN-16-2: 543,488 with the biases in front of norms and of the bilinear norm."""
    s = [torch.zeros(2, c, 2, 2) for c in (32, 64, 128) for _ in range(2)]
    t = [torch.zeros(2, c, 2, 2) for c in (32, 64, 128) for _ in range(6)]
    term = AFD()
    term.build(of(s), of(t), BATCH.target)
    idle = 128 * (6 + 18 + 18 + 18)  # linear layers of the student, the teacher, the mix; its norm
    assert sum(parameter.numel() for parameter in term.parameters()) == 543_488 - idle


def test_an_empty_map_has_a_gradient() -> None:
    empty = [torch.zeros(4, *shape, dtype=torch.float64, requires_grad=True) for shape in STUDENT]
    t = of(maps(TEACHER, 2))
    loss = built(of(empty), t)(of(empty), t, BATCH)
    loss.backward()
    assert loss.isfinite()
    for map in empty:
        assert map.grad is not None
        assert map.grad.isfinite().all()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="dim must be a whole number of 1 or more, got 0"):
        AFD(0)
    flat = of(maps([(5, 1, 1)], 1))
    with pytest.raises(ValueError, match="at least 2x2 places, got 1x1; give larger images"):
        AFD().build(of(maps(STUDENT, 1)), flat, BATCH.target)
