"""Batch norms over several processes: of one process they are PyTorch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.trainer.norms import batch_norm, synchronise

SHAPES = [(6, 3), (6, 3, 5), (4, 3, 5, 2)]


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def noise(*shape: int, seed: int = 0) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (3 * made + 2).requires_grad_()


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_arithmetic_is_that_of_pytorch(shape: tuple[int, ...], affine: bool) -> None:
    found = []
    for norm in (F.batch_norm, batch_norm):
        image, weight, bias = noise(*shape), noise(3, seed=1), noise(3, seed=2)
        mean, var = torch.zeros(3).double(), torch.ones(3).double()
        given = (weight, bias) if affine else (None, None)
        normed = norm(image, mean, var, given[0], given[1], True, 0.3, 1e-3)
        backward((normed * noise(*shape, seed=3)).sum())
        learned = [weight.grad, bias.grad] if affine else []
        found.append([normed, mean, var, image.grad, *learned])
    for plain, shared in zip(*found, strict=True):
        assert torch.allclose(plain, shared, rtol=1e-10, atol=1e-12)


def test_half_precision_stays_so_and_is_summed_in_single() -> None:
    image = (100 + noise(512, 3, 4, 4)).detach().bfloat16().requires_grad_()
    normed = batch_norm(image, None, None, torch.ones(3), torch.zeros(3))
    backward(normed.square().sum())
    assert normed.dtype == torch.bfloat16
    assert image.grad is not None
    assert image.grad.dtype == torch.bfloat16
    assert normed.float().mean((0, 2, 3)).abs().max() < 0.05


def test_every_kind_of_layer_is_reached_and_left_bare_again() -> None:
    torch.manual_seed(0)
    without_bias = nn.BatchNorm2d(4)
    without_bias.register_parameter("bias", None)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), BatchNormAct2d(4), nn.BatchNorm2d(4, track_running_stats=False)
    ).append(without_bias)
    network.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4)])
    plain, copied = copy.deepcopy(network), copy.deepcopy(network)
    release = synchronise([network])
    copied_later = copy.deepcopy(network)
    image = torch.randn(5, 3, 8, 8)
    results = [one(image) for one in (plain, network, copied_later)]
    assert all(torch.allclose(results[0], other, atol=1e-5) for other in results[1:])
    results[0].square().sum().backward()
    results[1].square().sum().backward()
    for one, other in zip(plain.parameters(), network.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, atol=1e-4)
    for seen, shared in zip(plain.buffers(), network.buffers(), strict=True):
        assert torch.allclose(seen, shared, atol=1e-6)
    assert torch.equal(copied.eval()(image), copied(image))
    assert list(plain.state_dict()) == list(network.state_dict())
    release()
    assert [m for m in network.modules() if "forward" in vars(m)] == []
