"""Quantised: let a network compute as its int8 file will, while it can still be trained.

What a Q/DQ graph does to the inputs and the weights of convolutions and linear layers, done in
float32 with straight-through gradients: Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, arXiv:1712.05877. What such a
graph rounds besides, as the two inputs of a sum, is not simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

LAYERS = (nn.Conv2d, nn.Linear)
PRODUCTS = frozenset({F.conv2d, F.linear})
"""What is rounded inside a layer: whatever weight it computes with, also one it makes itself."""
MEMORY = 100
"""Batches that a range is averaged over; the first hundred count alike."""
TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Scheme:
    """Which integers stand for activations and weights."""

    symmetric: bool = False
    """Activations have zero point 0, and the largest magnitude becomes ``high``."""
    low: int = 0
    """Activations saturate here and at ``high``."""
    high: int = 255
    weights: int = 127
    """A channel's largest weight; weights have zero point 0."""


SCHEMES: Mapping[str, Scheme] = {
    "int8": Scheme(),
    "int8-reduced": Scheme(weights=64),  # weights of 7 bits: x86 without VNNI adds in 16 bits
    "int8-symmetric": Scheme(symmetric=True, low=-128, high=127),  # TensorRT takes nothing else
}
"""By what a recipe calls them."""


class Simulation:
    """Rounding in networks that are trained: what it is, and the ranges it has seen.

    Ranges belong to the training and not to the network: nothing is added to the network's state,
    and several networks of one architecture, such as a moving average, may share them.

    Args:
        scheme: which integers there are.
    """

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self.observing = True
        """Whether layers in training mode widen and narrow their ranges."""
        self.agree: Callable[[Tensor], Tensor] = torch.clone
        """What makes of (2,), the most that each of several processes saw, the most of them all."""
        self._rounds = True
        self._ranges: dict[str, Tensor] = {}

    def attach(self, model: nn.Module) -> Callable[[], None]:
        """Let every convolution and linear layer of a network round, wherever the network is used.

        Layers whose own ``forward`` is not run, such as those that PyTorch's multi-head attention
        only takes the weights of, stay as they are; so do all inputs nobody has seen yet.

        Returns:
            What ends it and leaves the network bare.
        """
        layers = [(n, m) for n, m in model.named_modules() if isinstance(m, LAYERS)]
        for name, layer in layers:
            # beside the parameters, so that they keep their names; and copied with the layer
            vars(layer)["forward"] = partial(self._run, name, layer)

        def detach() -> None:
            for _, layer in layers:
                vars(layer).pop("forward", None)

        return detach

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Compute in float inside."""
        self._rounds = False
        try:
            yield
        finally:
            self._rounds = True

    def state_dict(self) -> dict[str, Tensor]:
        """Layer -> (3,): lowest and highest input, averaged, and over how many batches."""
        return dict(self._ranges)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take ranges back."""
        self._ranges = {name: found.clone() for name, found in state.items()}

    def _run(self, name: str, layer: nn.Module, *args: Any, **options: Any) -> Any:
        forward = type(layer).forward
        if not self._rounds:
            return forward(layer, *args, **options)
        with _Products(partial(self._rounded, name, layer.training and self.observing)):
            return forward(layer, *args, **options)

    def _rounded(
        self, name: str, observes: bool, image: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        if observes:
            self._observe(name, image.detach())
        found = self._ranges.get(name)
        if found is not None:
            if found.device != image.device:  # it came from a checkpoint
                found = self._ranges[name] = found.to(image.device)
            scale, zero = activation_grid(found[0], found[1], self.scheme)
            image = snap(image, scale, zero, self.scheme.low, self.scheme.high)
        most = self.scheme.weights
        return image, snap(weight, *weight_grid(weight, most), -most, most)

    @torch.no_grad()
    def _observe(self, name: str, image: Tensor) -> None:
        """Move a range along, on the device; Jacob et al., section 3.1.

        Deviation: the first batches are averaged evenly, since a short training has no time to
        forget the first one.
        """
        lowest, highest = torch.aminmax(image)
        most = self.agree(torch.stack([-lowest, highest]))
        seen = torch.stack([-most[0], most[1]])
        found = self._ranges.get(name)
        if found is None:
            self._ranges[name] = torch.cat([seen, seen.new_ones(1)])
            return
        found = found.to(image.device)
        count = (found[2] + 1).clamp(max=MEMORY)
        moved = torch.lerp(found[:2], seen, 1 / count)
        self._ranges[name] = torch.cat([moved, count[None]])


class _Products(TorchFunctionMode):
    """Inside, convolutions and linear maps are given other inputs and weights."""

    def __init__(self, rounded: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self._rounded = rounded

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in PRODUCTS:
            given = dict(zip(("input", "weight"), args, strict=False)) | kwargs
            image, weight = self._rounded(given.pop("input"), given.pop("weight"))
            args, kwargs = (image, weight, *args[2:]), given
        return func(*args, **kwargs)


def snap(values: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """ONNX's QuantizeLinear and then DequantizeLinear, to the last bit.

    ``(clamp(round(x / s) + z, low, high) - z) * s``, halves to the even number. The gradient is
    passed straight through where the integer is within the range before it is clamped, and is zero
    outside: Bengio et al., arXiv:1308.3432; Jacob et al. PyTorch's own fused operation multiplies
    with ``1 / s`` and rounds some values to the neighbour.
    """
    bottom, top = low - zero, high - zero
    # half a step more, or rounding would leave the largest weight of a channel without gradient
    within = values.clamp((bottom - 0.5) * scale, (top + 0.5) * scale)
    with torch.no_grad():
        # the two are within a factor of 2 of each other or one is zero, hence their difference is
        # exact and what is added below gives the very value (Sterbenz)
        change = (values / scale).round_().clamp_(bottom, top).mul_(scale).sub_(within)
    return within + change


@torch.no_grad()
def weight_grid(weight: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Step of each output channel, (K, 1, ...), whose largest magnitude it is one ``most``-th of.

    Batch normalisation that follows is folded into the weight when the network is exported, and
    multiplies a channel by one number; its step is multiplied with it, and the integers stay.
    """
    largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
    return _not_zero(largest / most), weight.new_zeros(())


@torch.no_grad()
def activation_grid(lowest: Tensor, highest: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Step and zero point of a range, which is widened to have zero in it, as a grid point."""
    lowest, highest = lowest.clamp(max=0), highest.clamp(min=0)
    if scheme.symmetric:
        largest = torch.maximum(-lowest, highest)
        return _not_zero(largest / scheme.high), torch.zeros_like(largest)
    scale = _not_zero((highest - lowest) / (scheme.high - scheme.low))
    return scale, torch.round(scheme.low - lowest / scale)


def _not_zero(scale: Tensor) -> Tensor:
    """As ONNX Runtime has it: all zeros are as well told in steps of one."""
    return torch.where(scale < TINY, 1.0, scale)
