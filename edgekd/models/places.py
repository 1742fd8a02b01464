"""Places: where to watch a network that does not show its maps itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from edgekd.errors import UsageError
from edgekd.models.blocks import Block, as_map, block_names
from edgekd.models.probe import Call, once

Size = tuple[int, ...]


def find_places(model: nn.Module, calls: Sequence[Call], image: Tensor) -> tuple[list[Block], str]:
    """The modules that end a resolution, fine to coarse, and the name of the classifier.

    A resolution ends with its last block; where it has none, or no blocks are known, with the last
    module that gives a map of it.

    Args:
        model: the network.
        calls: what :func:`~edgekd.models.probe.record` noted while it saw ``image``.
        image: (B, 3, H, W).

    Raises:
        UsageError: there are none.
    """
    outputs = {call.name: call.output for call in once(calls)}
    blocks = block_names(model, outputs)
    within = tuple(f"{name}." for name in blocks)
    outside = [n for n in outputs if n not in blocks and not n.startswith(within)]
    places: dict[Size, Block] = {}
    for name in [*outside, *(name for name in outputs if name in blocks)]:
        if outputs[name].ndim == 4:
            place = Block(name, _layout(outputs[name], image))
            size = as_map(outputs[name], place.layout, ()).shape[2:]
            places[size] = place
    found = _narrowing(places, list(outputs))
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    heads = [name for name in outputs if name in linear]
    if not found or not heads:
        raise UsageError(
            f"{type(model).__name__} shows no feature maps: expected a convolutional network "
            "with a linear classifier, or one that has timm's forward_intermediates."
        )
    return found, heads[-1]


def _narrowing(places: Mapping[Size, Block], order: Sequence[str]) -> list[Block]:
    """The places in their order, without those that show no grid or a finer one than before."""
    found: list[Block] = []
    last = math.inf
    for size, place in sorted(places.items(), key=lambda item: order.index(item[1].name)):
        if min(size) > 1 and math.prod(size) <= last:
            found.append(place)
            last = math.prod(size)
    return found


def _layout(output: Tensor, image: Tensor) -> str:
    """NHWC where only that leaves the image its shape, as in torchvision's Swin."""
    height, width = image.shape[2:]
    rows, columns = output.shape[2:]
    plain = abs(rows * width - columns * height) < max(height, width)
    rows, columns = output.shape[1:3]
    last = abs(rows * width - columns * height) < max(height, width)
    return "NHWC" if last and not plain else "NCHW"
