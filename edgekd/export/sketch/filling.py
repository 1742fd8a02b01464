"""Filling: values for a network's tensors that are as good as trained ones to time it with.

A fresh network is not: normalisations that change nothing and branches that begin at zero could be
folded away, and where values shrink from layer to layer they become denormal numbers, which x86
computes a hundred times slower.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["fill"]

BatchNorm = nn.modules.batchnorm._BatchNorm
NORMS = (BatchNorm, nn.GroupNorm, nn.LayerNorm)


def fill(model: nn.Module, images: Tensor, seed: int = 0) -> None:
    """Give a network random values, in place; it is left in evaluation mode.

    Norms get a scale of 0.5 to 1.5 and a shift. What else has one value throughout, such as a bias
    of zeros, gets many. Then the batch norms learn what they see, as they would in a training, and
    their variances are changed by a factor of 0.5 to 2.

    Args:
        model: on the CPU, in float32.
        images: (B, 3, H, W), at least two.
        seed: of the values; other random numbers are not disturbed.
    """
    draw = torch.Generator().manual_seed(seed)
    norms = [module for module in model.modules() if isinstance(module, NORMS)]
    batch_norms = [norm for norm in norms if isinstance(norm, BatchNorm)]
    with torch.no_grad():
        for norm in norms:
            _affine(norm, draw)
        for parameter in model.parameters():
            _vary(parameter, draw)
        _learn(model.eval(), batch_norms, images)
        for norm in batch_norms:
            if norm.running_var is not None and norm.running_mean is not None:
                spread = norm.running_var.clamp(1e-3)
                factor = torch.rand(spread.shape, generator=draw) * 2 - 1
                norm.running_mean += 0.1 * spread.sqrt() * _normal(spread, draw)
                norm.running_var.copy_(spread * 2.0**factor)


def _affine(norm: nn.Module, draw: torch.Generator) -> None:
    if isinstance(norm.weight, Tensor):
        norm.weight.copy_(torch.rand(norm.weight.shape, generator=draw) + 0.5)
    if isinstance(norm.bias, Tensor):
        norm.bias.copy_(0.1 * _normal(norm.bias, draw))


def _vary(parameter: Tensor, draw: torch.Generator) -> None:
    """Spread a tensor of equal values: around what it is, or narrowly around zero."""
    first = float(parameter.reshape(-1)[0]) if parameter.numel() > 1 else 0.0
    if parameter.numel() < 2 or not bool((parameter == first).all()):
        return
    noise = torch.rand(parameter.shape, generator=draw) + 0.5
    parameter.copy_(first * noise if first else 0.02 * _normal(parameter, draw))


def _learn(model: nn.Module, norms: Sequence[BatchNorm], images: Tensor) -> None:
    """Let the batch norms take the statistics of one batch; nothing else trains."""
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    model(images)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.eval()


def _normal(like: Tensor, draw: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=draw)
