"""Channels that half floats lose: those the network feels keep their layer in float32."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgekd.data import Images
from edgekd.export._halving.channels import felt_channels
from edgekd.export._halving.half import half_network
from edgekd.export._network import reference
from edgekd.preprocess import Preprocess


def network(first: nn.Module, shrink: Callable[[Tensor], Tensor], made_up: bool) -> nn.Module:
    """Half the channels of a layer are tiny; the next one makes up for it, or does not."""
    torch.manual_seed(0)
    second = nn.Conv2d(8, 8, 3, 1, 1)
    with torch.no_grad():
        for weight in first.parameters():
            shrink(weight).mul_(1e-8)
        if made_up:
            second.weight[:, ::2] *= 1e8
    layers = [first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return reference(nn.Sequential(*layers, nn.Linear(8, 10)))


def convolution(made_up: bool) -> nn.Module:
    return network(nn.Conv2d(3, 8, 3, bias=False), lambda weight: weight[::2], made_up)


def transposed(made_up: bool) -> nn.Module:
    return network(nn.ConvTranspose2d(3, 8, 2, bias=False), lambda weight: weight[:, ::2], made_up)


@pytest.mark.parametrize("make", [convolution, transposed])
def test_lost_channels_that_a_later_layer_makes_up_for_stay_in_float32(
    make: Callable[[bool], nn.Module],
    images: Callable[[int, int], Images],
    preprocess: Callable[[int], Preprocess],
) -> None:
    """Their outputs are as small, and stay float32 on the way as well."""
    _, record = half_network(make(True), preprocess(32), images(12, 32).pixels)
    kept = {entry["layer"]: entry["why"] for entry in record["float32"]}
    assert kept.keys() == {"0", "2"}
    assert kept["0"] == "half floats would lose the weights of 4 channels"
    assert record["snr_db"] > 50


@pytest.mark.parametrize("make", [convolution, transposed])
def test_dead_channels_cost_nothing(
    make: Callable[[bool], nn.Module],
    images: Callable[[int, int], Images],
    preprocess: Callable[[int], Preprocess],
) -> None:
    _, record = half_network(make(False), preprocess(32), images(12, 32).pixels)
    assert record["float32"] == []
    assert record["snr_db"] > 50


def test_only_the_layers_that_are_felt_and_the_network_is_left_alone() -> None:
    last = nn.Linear(10, 10)
    net = nn.Sequential(convolution(True), last)
    with torch.no_grad():
        last.weight[3] *= 1e-9
    images = torch.randn(4, 3, 16, 16)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.no_grad():
        expected = net(images)
    layers = ["0.0", "0.2", "1"]
    assert felt_channels(net, layers, images, expected).keys() == {"0.0", "0.2"}
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
