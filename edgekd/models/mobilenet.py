"""MobileNetV2 of half width for CIFAR: mobilenetv2_cifar.

Sandler, Howard, Zhu, Zhmoginov & Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
CVPR 2018, arXiv:1801.04381, table 2 with expansion 6 and width 0.5, and the first widening to 24
channels without stride, as in the distillation literature (arXiv:1910.10699).

Deviation from the paper, shared with that literature: ReLU instead of ReLU6.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from edgekd.models._family import StagedNet, build, conv_bn, describe, stack

__all__ = ["mobilenetv2_cifar"]

default_cfgs = describe(__all__, first_conv="stem.0.conv", reduction=16)

# Output channels of each block at width 1, one row per resolution; table 2 lists them as c and n.
ROWS = [[24] * 2, [32] * 3, [64] * 4 + [96] * 3, [160] * 3 + [320]]


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter by depthwise 3x3, narrow by linear 1x1; add the input if shapes agree.

    (B, width_in, H, W) -> (B, width, h, w).
    """

    def __init__(self, width_in: int, width: int, stride: int, expansion: int = 6) -> None:
        super().__init__()
        wide = width_in * expansion
        self.expand = conv_bn(width_in, wide, 1)
        self.depthwise = conv_bn(wide, wide, 3, stride, groups=wide)
        self.project = conv_bn(wide, width, 1, act=False)
        self.is_residual = stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.is_residual else out


def _network(multiplier: float, in_chans: int = 3, **head: Any) -> StagedNet:
    first, second = int(32 * multiplier), int(16 * multiplier)
    stem = nn.Sequential(
        conv_bn(in_chans, first, 3, stride=2), InvertedResidual(first, second, 1, expansion=1)
    )
    rows = [[int(width * multiplier) for width in row] for row in ROWS]
    stages = stack(InvertedResidual, second, rows, reduction=2)
    conv_head = conv_bn(rows[-1][-1], 1280, 1)
    return StagedNet(stem, stages, conv_head=conv_head, num_features=1280, **head)


@register_model
def mobilenetv2_cifar(pretrained: bool = False, **options: Any) -> StagedNet:
    return build("mobilenetv2_cifar", partial(_network, 0.5), pretrained, stages=4, **options)
