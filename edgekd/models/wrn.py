"""Wide ResNets for CIFAR: wrn_16_1, wrn_16_2, wrn_40_1, wrn_40_2 (depth and widening factor).

Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016, arXiv:1605.07146, table 1: a 3x3 stem of
16 channels, then three stages of n pre-activation blocks, depth 6n + 4, widths 16k, 32k and 64k.
``drop_rate`` is the paper's dropout between the convolutions of a block (section 2.4).

The map of a stage is the sum at its end, before norm and ReLU; ``norm=True`` gives the last one
after both.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from edgekd.models._family import StagedNet, build, describe, stack

__all__ = ["wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2"]

default_cfgs = describe(__all__, first_conv="stem", reduction=4)


def _bn_relu(width: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(width), act=nn.ReLU()))


def _conv(width_in: int, width: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width, kernel_size, stride, padding=kernel_size // 2, bias=False)


class PreActBlock(nn.Module):
    """Norm and ReLU before each of two 3x3 convolutions, (B, width_in, H, W) -> (B, width, h, w).

    Where the shape changes, a 1x1 convolution of the first ReLU's output is the shortcut.
    """

    def __init__(self, width_in: int, width: int, stride: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.norm1 = _bn_relu(width_in)
        self.conv1 = _conv(width_in, width, 3, stride)
        self.norm2 = _bn_relu(width)
        self.drop = nn.Dropout(drop_rate)
        self.conv2 = _conv(width, width, 3)
        keeps_shape = stride == 1 and width_in == width
        self.shortcut = None if keeps_shape else _conv(width_in, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = self.norm1(x)
        shortcut = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.conv2(self.drop(self.norm2(self.conv1(active)))) + shortcut
        return out


def _network(
    depth: int, widen: int, in_chans: int = 3, drop_rate: float = 0.0, **head: Any
) -> StagedNet:
    blocks = (depth - 4) // 6
    rows = [[width * widen] * blocks for width in (16, 32, 64)]
    stages = stack(partial(PreActBlock, drop_rate=drop_rate), 16, rows)
    return StagedNet(_conv(in_chans, 16, 3), stages, norm=_bn_relu(64 * widen), **head)


def _wrn(name: str, pretrained: bool, depth: int, widen: int, **options: Any) -> StagedNet:
    return build(name, partial(_network, depth, widen), pretrained, stages=3, **options)


@register_model
def wrn_16_1(pretrained: bool = False, **options: Any) -> StagedNet:
    return _wrn("wrn_16_1", pretrained, 16, 1, **options)


@register_model
def wrn_16_2(pretrained: bool = False, **options: Any) -> StagedNet:
    return _wrn("wrn_16_2", pretrained, 16, 2, **options)


@register_model
def wrn_40_1(pretrained: bool = False, **options: Any) -> StagedNet:
    return _wrn("wrn_40_1", pretrained, 40, 1, **options)


@register_model
def wrn_40_2(pretrained: bool = False, **options: Any) -> StagedNet:
    return _wrn("wrn_40_2", pretrained, 40, 2, **options)
