"""What the CIFAR families share: a network of stages that speaks timm's interface.

A family describes its blocks and their widths; everything else is here: the stages, the head, the
feature maps, the weights' first values and the registration with timm.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from timm.layers.classifier import ClassifierHead
from timm.models import DefaultCfg, build_model_with_cfg, generate_default_cfgs
from timm.models._features import feature_take_indices
from torch import Tensor, nn

__all__ = ["Stage", "StagedNet", "build", "conv_bn", "describe", "stack"]


class Stage(NamedTuple):
    """The blocks that work at one resolution."""

    blocks: nn.Sequential
    width: int  # channels of the last block
    reduction: int  # input size / map size


class StagedNet(nn.Module):
    """Stem, stages, an optional last norm and 1x1 convolution, global pool, classifier.

    The map of a stage is what its last block returns; ``stages.I.J`` is block J of stage I. Images
    are (B, in_chans, H, W) of any size from 8x8.

    Args:
        stem: from the image to the first stage.
        stages: fine to coarse.
        norm: applied to the last map; keeps its shape.
        conv_head: applied after ``norm``; widens the last map to ``num_features`` channels.
        num_features: channels before pooling; the width of the last stage by default.
        num_classes: 0 leaves the classifier out.
        global_pool: a pooling that timm knows.
        drop_rate: dropout of the embedding.
    """

    default_cfg: dict[str, Any]  # timm sets it

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Stage],
        *,
        norm: nn.Module | None = None,
        conv_head: nn.Module | None = None,
        num_features: int | None = None,
        num_classes: int = 10,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = num_features or stages[-1].width
        self.feature_info: list[dict[str, Any]] = [
            {"num_chs": stage.width, "reduction": stage.reduction, "module": f"stages.{i}"}
            for i, stage in enumerate(stages)
        ]
        self.stem = stem
        self.stages = nn.Sequential(*(stage.blocks for stage in stages))
        self.norm = norm or nn.Identity()
        self.conv_head = conv_head or nn.Identity()
        self.head = ClassifierHead(self.num_features, num_classes, global_pool, drop_rate)
        _init_convs(self.modules())

    @property
    def head_hidden_size(self) -> int:
        """Width of the embedding; some poolings double ``num_features``."""
        return self.num_features * int(self.head.global_pool.feat_mult())

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the map before pooling, (B, num_features, h, w)."""
        features: Tensor = self.conv_head(self.norm(self.stages(self.stem(x))))
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (B, K) of a map, or its embedding (B, D) if ``pre_logits``."""
        out: Tensor = self.head(x, pre_logits=pre_logits)
        return out

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return what ``forward_head`` takes, and the maps of the stages.

        Args:
            x: (B, in_chans, H, W).
            indices: stages to return, in the network's order: the last n, these, or all.
            norm: return the last stage's map after ``norm``.
            stop_early: compute no stage beyond the last one asked for; the first value is then
                that stage's map.
            output_fmt: ``NCHW``, the only one here.
            intermediates_only: return the maps alone.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt is {output_fmt!r}; a CIFAR network gives 'NCHW' only")
        taken, last = feature_take_indices(len(self.stages), _as_list(indices))
        depth = last + 1 if stop_early else len(self.stages)
        complete = depth == len(self.stages)
        x = self.stem(x)
        maps = []
        for stage in self.stages[:depth]:
            x = stage(x)
            maps.append(x)  # (B, C_i, H_i, W_i)
        if complete:
            x = self.norm(x)
            maps[-1] = x if norm else maps[-1]
        maps = [map_ for i, map_ in enumerate(maps) if i in taken]
        if intermediates_only:
            return maps
        return self.conv_head(x) if complete else x, maps

    def get_classifier(self) -> nn.Module:
        classifier: nn.Module = self.head.fc
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh classifier in place; 0 classes leave it out."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)


def conv_bn(
    width_in: int,
    width: int,
    kernel_size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    bias: bool = False,
    act: bool = True,
) -> nn.Sequential:
    """Convolution, batch norm and, if ``act``, ReLU; ``kernel_size`` is odd and the padding "same".

    The ReLU is not in place, so that a hook on the norm keeps what it saw.
    """
    layers = OrderedDict[str, nn.Module](
        conv=nn.Conv2d(
            width_in,
            width,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=bias,
        ),
        bn=nn.BatchNorm2d(width),
    )
    if act:
        layers["act"] = nn.ReLU()
    return nn.Sequential(layers)


def stack(
    block: Callable[[int, int, int], nn.Module],
    width_in: int,
    widths: Sequence[Sequence[int]],
    *,
    stride: int = 1,
    reduction: int = 1,
) -> list[Stage]:
    """Make stages of blocks, each stage at half the resolution of the one before.

    Args:
        block: makes a block from its input width, its width and its stride.
        width_in: channels of the stem.
        widths: the width of each block, stage by stage.
        stride: of the first stage; the others have 2.
        reduction: of the stem.
    """
    stages = []
    for row in widths:
        blocks = []
        reduction *= stride
        for width in row:
            blocks.append(block(width_in, width, stride))
            width_in, stride = width, 1
        stages.append(Stage(nn.Sequential(*blocks), width_in, reduction))
        stride = 2
    return stages


def describe(names: Iterable[str], first_conv: str, reduction: int) -> dict[str, DefaultCfg]:
    """Make a family's ``default_cfgs``, where timm finds them: CIFAR-10's input, no weights.

    Args:
        names: of the registered functions.
        first_conv: the module that sees the image.
        reduction: of the map before pooling.
    """
    config = {
        "num_classes": 10,
        "input_size": (3, 32, 32),
        "min_input_size": (3, 8, 8),
        "pool_size": (32 // reduction, 32 // reduction),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.2470, 0.2435, 0.2616),
        "first_conv": first_conv,
        "classifier": "head.fc",
    }
    return dict(generate_default_cfgs({name: dict(config) for name in names}))


def build(
    name: str, network: Callable[..., StagedNet], pretrained: bool, stages: int, **options: Any
) -> StagedNet:
    """Build a registered network the way timm does, so that ``features_only`` works too.

    Args:
        name: under which it is registered.
        network: makes it from ``options``.
        pretrained: refused by timm unless ``options`` say where weights are.
        stages: how many maps ``features_only`` returns.
        options: of ``timm.create_model``.
    """
    feature_cfg = {"out_indices": tuple(range(stages)), "flatten_sequential": True}
    return build_model_with_cfg(network, name, pretrained, feature_cfg=feature_cfg, **options)


def _as_list(indices: int | Sequence[int] | None) -> int | list[int] | None:
    return indices if indices is None or isinstance(indices, int) else list(indices)


def _init_convs(modules: Iterable[nn.Module]) -> None:
    """Kaiming-normal convolutions by their outgoing connections (He et al., arXiv:1502.01852)."""
    for module in modules:
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size) // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
