"""A copy of a network in half floats, some of its modules in float32.

Modules keep their place and their names: hooks cast what goes into them and what comes out, and
PyTorch's exporters write what hooks do like anything else.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.export._halving.overflow import SAFE

__all__ = ["Half", "Kept", "floats", "halved", "pruned", "takes", "within"]

Kept = dict[str, str]
"""Names of modules that stay in float32, and why."""


class Half(nn.Module):
    """Normalised images (B, 3, H, W) float32 to logits (B, K) float32, half floats inside."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images.to(torch.float16))
        return logits.to(torch.float32)


def halved(network: nn.Module, kept: Kept, outputs: Mapping[str, float]) -> Half:
    """A copy in half floats, but for the modules that are kept.

    A kept module takes float32 and hands on half floats if its output fits. If it does not, the
    output stays float32, and so do sums with it, up to the next layer with weights.

    Args:
        network: in float32 and evaluation mode.
        kept: none of them within another.
        outputs: by module, the largest magnitude that comes out of it.
    """
    clone = copy.deepcopy(network)
    for name, module in clone.named_modules():
        if name in kept:
            module.register_forward_pre_hook(partial(_receive, torch.float32), with_kwargs=True)
            if outputs.get(name, 0.0) <= SAFE:
                module.register_forward_hook(_hand_on)
        if within(name, kept):
            continue
        for tensor in floats(module):
            tensor.data = tensor.data.to(torch.float16)
        if takes(module):
            module.register_forward_pre_hook(partial(_receive, torch.float16), with_kwargs=True)
    return Half(clone).eval()


def _receive(dtype: torch.dtype, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Floating-point arguments as a module wants them."""
    return _cast(args, dtype), _cast(kwargs, dtype)


def _hand_on(module: nn.Module, args: Any, output: Any) -> Any:
    return _cast(output, torch.float16)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        # Not to the type it has: the older exporter would write that as a Cast.
        return value.to(dtype) if value.is_floating_point() and value.dtype != dtype else value
    if isinstance(value, list | tuple):
        make = getattr(value, "_make", type(value))  # named tuples are made differently
        return make(_cast(part, dtype) for part in value)
    if isinstance(value, dict):
        return {key: _cast(part, dtype) for key, part in value.items()}
    return value


def takes(module: nn.Module) -> bool:
    """Whether a module's input must have its weights' type; others compute in any."""
    return next(module.children(), None) is None and bool(floats(module))


def floats(module: nn.Module) -> list[Tensor]:
    """A module's own floating-point parameters and buffers."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return [tensor for tensor in own if tensor.is_floating_point()]


def within(name: str, kept: Mapping[str, str]) -> bool:
    """Whether a module is kept, or lies inside one that is."""
    return any(name == outer or name.startswith(f"{outer}.") for outer in kept)


def pruned(kept: Kept) -> Kept:
    """Without modules that lie inside others of them."""
    return {n: why for n, why in kept.items() if not within(n.rpartition(".")[0], kept)}
