"""VGGs for CIFAR, with batch norm: vgg8, vgg11_cifar, vgg13_cifar, vgg16_cifar, vgg19_cifar.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR
2015, arXiv:1409.1556, table 1; vgg8 has one convolution where vgg11 has one or two.

Deviations, those of the distillation literature (arXiv:1910.10699): batch norm, one linear layer on
a 512-d embedding instead of three, and no pooling between the two groups of 512 channels, which
therefore form one stage; global pooling replaces the last max pooling.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

from timm.models import register_model
from torch import nn

from edgekd.models._family import StagedNet, build, conv_bn, describe, stack

__all__ = ["vgg8", "vgg11_cifar", "vgg13_cifar", "vgg16_cifar", "vgg19_cifar"]

default_cfgs = describe(__all__, first_conv="stages.0.0.conv", reduction=8)


def _block(width_in: int, width: int, stride: int) -> nn.Sequential:
    """Convolution, norm and ReLU, after max pooling where the resolution halves."""
    block = conv_bn(width_in, width, 3, bias=True)
    if stride == 1:
        return block
    return nn.Sequential(OrderedDict(pool=nn.MaxPool2d(stride), **dict(block.named_children())))


def _network(convs: Sequence[int], in_chans: int = 3, **head: Any) -> StagedNet:
    rows = [[width] * n for width, n in zip((64, 128, 256, 512), convs, strict=True)]
    return StagedNet(nn.Identity(), stack(_block, in_chans, rows), **head)


def _vgg(name: str, pretrained: bool, convs: Sequence[int], **options: Any) -> StagedNet:
    """Build a VGG from the number of convolutions in each stage."""
    return build(name, partial(_network, convs), pretrained, stages=4, **options)


@register_model
def vgg8(pretrained: bool = False, **options: Any) -> StagedNet:
    return _vgg("vgg8", pretrained, (1, 1, 1, 1 + 1), **options)


@register_model
def vgg11_cifar(pretrained: bool = False, **options: Any) -> StagedNet:
    return _vgg("vgg11_cifar", pretrained, (1, 1, 2, 2 + 2), **options)


@register_model
def vgg13_cifar(pretrained: bool = False, **options: Any) -> StagedNet:
    return _vgg("vgg13_cifar", pretrained, (2, 2, 2, 2 + 2), **options)


@register_model
def vgg16_cifar(pretrained: bool = False, **options: Any) -> StagedNet:
    return _vgg("vgg16_cifar", pretrained, (2, 2, 3, 3 + 3), **options)


@register_model
def vgg19_cifar(pretrained: bool = False, **options: Any) -> StagedNet:
    return _vgg("vgg19_cifar", pretrained, (2, 2, 4, 4 + 4), **options)
