"""ShuffleNets for CIFAR: shufflenetv1_cifar (three groups), shufflenetv2_cifar (width 1).

Zhang, Zhou, Lin & Sun, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile
Devices", CVPR 2018, arXiv:1707.01083, figure 2 and table 1 (g = 3).
Ma, Zhang, Zheng & Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
ECCV 2018, arXiv:1807.11164, figure 3 and table 5 (1x).

Deviation, that of the distillation literature (arXiv:1910.10699): the stem is a 1x1 convolution to
24 channels at full resolution instead of a 3x3 one with stride 2 and max pooling.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn

from edgekd.models._family import StagedNet, build, conv_bn, describe, stack

__all__ = ["shufflenetv1_cifar", "shufflenetv2_cifar"]

default_cfgs = describe(__all__, first_conv="stem.conv", reduction=8)

STEM = 24


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of ``groups`` groups: channel (g, c) becomes (c, g)."""
    C, H, W = x.shape[1:]
    grouped = x.reshape(-1, groups, C // groups, H, W)  # -1: no shape arithmetic in ONNX
    return grouped.transpose(1, 2).reshape(-1, C, H, W)


class GroupedUnit(nn.Module):
    """ShuffleNet unit, figure 2 b and c: the shortcut is added, or appended where stride is 2.

    (B, width_in, H, W) -> (B, width, h, w). The bottleneck has a quarter of the channels that the
    branch gives. The first convolution after the stem has too few channels for groups.
    """

    def __init__(self, width_in: int, width: int, stride: int, groups: int = 3) -> None:
        super().__init__()
        self.appends = stride == 2
        branch = width - width_in if self.appends else width
        self.groups = 1 if width_in == STEM else groups
        self.conv1 = conv_bn(width_in, branch // 4, 1, groups=self.groups)
        self.conv2 = conv_bn(branch // 4, branch // 4, 3, stride, groups=branch // 4, act=False)
        self.conv3 = conv_bn(branch // 4, branch, 1, groups=groups, act=False)
        self.shortcut = nn.AvgPool2d(3, stride, padding=1) if self.appends else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.conv1(x)
        if self.groups > 1:
            narrow = shuffle(narrow, self.groups)
        branch, shortcut = self.conv3(self.conv2(narrow)), self.shortcut(x)
        out = torch.cat([branch, shortcut], dim=1) if self.appends else branch + shortcut
        result: Tensor = self.act(out)
        return result


class SplitUnit(nn.Module):
    """ShuffleNetV2 unit, figure 3 c and d: half the channels pass, or all are filtered at stride 2.

    (B, width_in, H, W) -> (B, width, h, w).
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.splits = stride == 1
        half = width // 2
        entering = half if self.splits else width_in
        self.left = (
            nn.Identity()
            if self.splits
            else nn.Sequential(
                conv_bn(entering, entering, 3, stride, groups=entering, act=False),
                conv_bn(entering, half, 1),
            )
        )
        self.right = nn.Sequential(
            conv_bn(entering, half, 1),
            conv_bn(half, half, 3, stride, groups=half, act=False),
            conv_bn(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1) if self.splits else (x, x)
        return shuffle(torch.cat([self.left(left), self.right(right)], dim=1), groups=2)


def _network_v1(in_chans: int = 3, **head: Any) -> StagedNet:
    rows = [[240] * 4, [480] * 8, [960] * 4]
    stages = stack(partial(GroupedUnit, groups=3), STEM, rows, stride=2)
    return StagedNet(conv_bn(in_chans, STEM, 1), stages, **head)


def _network_v2(in_chans: int = 3, **head: Any) -> StagedNet:
    rows = [[116] * 4, [232] * 8, [464] * 4]
    stages = stack(SplitUnit, STEM, rows, stride=2)
    stem, conv_head = conv_bn(in_chans, STEM, 1), conv_bn(464, 1024, 1)
    return StagedNet(stem, stages, conv_head=conv_head, num_features=1024, **head)


@register_model
def shufflenetv1_cifar(pretrained: bool = False, **options: Any) -> StagedNet:
    return build("shufflenetv1_cifar", _network_v1, pretrained, stages=3, **options)


@register_model
def shufflenetv2_cifar(pretrained: bool = False, **options: Any) -> StagedNet:
    return build("shufflenetv2_cifar", _network_v2, pretrained, stages=3, **options)
