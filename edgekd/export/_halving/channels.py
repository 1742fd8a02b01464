"""Output channels whose weights half floats lose, and whether the network feels it.

A layer's weights may be right as a whole while those of one channel are so small that nothing is
left of them. Networks have dead channels, which nothing reads: with those it does no harm. A later
layer may also make up for small channels, and then whatever they told is gone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from edgekd.export._halving.mixed import Kept, floats
from edgekd.export._parity import snr_db

__all__ = ["LOSS", "felt_channels"]

LOSS = 0.01
"""Share of a tensor that rounding to half may take; usual is 0.0003. More is lost where values are
beyond the range, or so small that half floats have few bits left or none."""
UNFELT_DB = 60.0
"""Half networks have 50 to 75 dB at their logits, whatever their channels are like."""


def felt_channels(
    network: nn.Module, layers: Collection[str], images: Tensor, expected: Tensor
) -> Kept:
    """Layers with channels that half floats lose, as far as the logits show it; and why.

    Only those channels are rounded, in a float32 copy of the network: all at once, and layer by
    layer if that shows.

    Args:
        network: in float32 and evaluation mode.
        layers: names of those that would be in half.
        images: (B, 3, H, W), normalised.
        expected: logits (B, K) of the network for them.
    """
    modules = {name: network.get_submodule(name) for name in layers}
    counts = {
        name: max(int(_lost(module, tensor).sum()) for tensor in floats(module))
        for name, module in modules.items()
    }
    lost = {name: count for name, count in counts.items() if count}
    if not lost or _level(network, lost, images, expected) >= UNFELT_DB:
        return {}
    # The errors of layers add up: that many of this level stay below the limit together.
    least = UNFELT_DB + 10 * math.log10(len(lost))
    return {
        name: f"half floats would lose the weights of {count} channel{'s' * (count != 1)}"
        for name, count in lost.items()
        if _level(network, {name: count}, images, expected) < least
    }


def _level(network: nn.Module, lost: Mapping[str, int], images: Tensor, expected: Tensor) -> float:
    """Signal to noise of the logits where those channels are rounded."""
    clone = copy.deepcopy(network)
    for name in lost:
        module = clone.get_submodule(name)
        for tensor in floats(module):
            rounded = tensor.data.half().to(tensor.dtype)
            tensor.data = torch.where(_lost(module, tensor), rounded, tensor.data)
    with torch.no_grad():
        logits: Tensor = clone(images)
    # A variance that becomes zero may even be divided by.
    return snr_db(expected.numpy(), logits.numpy()) if logits.isfinite().all() else -math.inf


def _lost(module: nn.Module, tensor: Tensor) -> Tensor:
    """Which output channels change by more than :data:`LOSS`; as many axes as the tensor has."""
    kept: tuple[int, ...] = (0,)
    if isinstance(module, nn.modules.conv._ConvTransposeNd) and tensor.dim() > 1:
        # (in, out of a group, ...): where groups share that axis, each kernel is taken by itself
        kept = (1,) if module.groups == 1 else (0, 1)
    rest = [axis for axis in range(tensor.dim()) if axis not in kept]
    exact = tensor.detach().double()
    length, lost = (
        part.square().sum(rest, keepdim=True) if rest else part.square()
        for part in (exact, exact.to(torch.float16).double() - exact)
    )
    found: Tensor = lost > LOSS**2 * length
    return found
