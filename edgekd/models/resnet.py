"""ResNets for CIFAR: resnet8, 14, 20, 32, 44, 56, 110 and the 4x wide resnet8x4, resnet32x4.

He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385,
section 4.2: a 3x3 stem, then three stages of n blocks of two 3x3 convolutions, depth 6n + 2. The
wide ones are those of Tian, Krishnan & Isola, "Contrastive Representation Distillation", ICLR 2020,
arXiv:1910.10699.

Deviation: where the shape changes, the shortcut is a 1x1 convolution (option B of section 4.1), as
in the distillation literature; section 4.2 pads with zeros (option A).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from edgekd.models._family import StagedNet, build, conv_bn, describe, stack

__all__ = [
    "resnet8",
    "resnet8x4",
    "resnet14",
    "resnet20",
    "resnet32",
    "resnet32x4",
    "resnet44",
    "resnet56",
    "resnet110",
]

default_cfgs = describe(__all__, first_conv="stem.conv", reduction=4)

NARROW = (16, 16, 32, 64)  # stem and stages
WIDE = (32, 64, 128, 256)


class BasicBlock(nn.Module):
    """ReLU of two 3x3 convolutions plus a shortcut, (B, width_in, H, W) -> (B, width, h, w)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv_bn(width_in, width, 3, stride)
        self.conv2 = conv_bn(width, width, 3, act=False)
        keeps_shape = stride == 1 and width_in == width
        self.shortcut = (
            nn.Identity() if keeps_shape else conv_bn(width_in, width, 1, stride, act=False)
        )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.conv2(self.conv1(x)) + self.shortcut(x))
        return out


def _network(
    depth: int, widths: tuple[int, int, int, int], in_chans: int = 3, **head: Any
) -> StagedNet:
    blocks = (depth - 2) // 6
    stem = conv_bn(in_chans, widths[0], 3)
    rows = [[width] * blocks for width in widths[1:]]
    return StagedNet(stem, stack(BasicBlock, widths[0], rows), **head)


def _resnet(
    name: str, pretrained: bool, depth: int, widths: tuple[int, int, int, int], **options: Any
) -> StagedNet:
    return build(name, partial(_network, depth, widths), pretrained, stages=3, **options)


@register_model
def resnet8(pretrained: bool = False, **options: Any) -> StagedNet:
    return _resnet("resnet8", pretrained, 8, NARROW, **options)


@register_model
def resnet8x4(pretrained: bool = False, **options: Any) -> StagedNet:
    return _resnet("resnet8x4", pretrained, 8, WIDE, **options)


@register_model
def resnet14(pretrained: bool = False, **options: Any) -> StagedNet:
    return _resnet("resnet14", pretrained, 14, NARROW, **options)


@register_model
def resnet20(pretrained: bool = False, **options: Any) -> StagedNet:
    return _resnet("resnet20", pretrained, 20, NARROW, **options)


@register_model
def resnet32(pretrained: bool = False, **options: Any) -> StagedNet:
    return _resnet("resnet32", pretrained, 32, NARROW, **options)


@register_model
def resnet32x4(pretrained: bool = False, **options: Any) -> StagedNet:
    return _resnet("resnet32x4", pretrained, 32, WIDE, **options)


@register_model
def resnet44(pretrained: bool = False, **options: Any) -> StagedNet:
    return _resnet("resnet44", pretrained, 44, NARROW, **options)


@register_model
def resnet56(pretrained: bool = False, **options: Any) -> StagedNet:
    return _resnet("resnet56", pretrained, 56, NARROW, **options)


@register_model
def resnet110(pretrained: bool = False, **options: Any) -> StagedNet:
    return _resnet("resnet110", pretrained, 110, NARROW, **options)
