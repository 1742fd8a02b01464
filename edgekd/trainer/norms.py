"""Norms: batch normalisation over the images of all processes.

With its own share alone, a process would normalise by the mean of a part of the batch, and a
training by two would be another one than by one. PyTorch's synchronised norm takes GPUs alone; here
a CPU does the same arithmetic (Ioffe & Szegedy, arXiv:1502.03167, algorithm 1, and its gradient).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from edgekd.trainer import collective

ARGUMENTS = (
    "input",
    "running_mean",
    "running_var",
    "weight",
    "bias",
    "training",
    "momentum",
    "eps",
)
"""Of ``F.batch_norm``, which every kind of such a layer calls."""


def synchronise(networks: Iterable[nn.Module]) -> Callable[[], None]:
    """Let each batch norm in the networks normalise by what all processes see.

    The layers stay what they are, with their parameters and hooks; a copy made before is left
    alone, as an average of weights is only evaluated.

    Args:
        networks: whose every process sees an equal share of a batch.

    Returns:
        What ends it and leaves the networks bare.
    """
    layers = [m for n in networks for m in n.modules() if isinstance(m, _BatchNorm)]
    for layer in layers:
        vars(layer)["forward"] = partial(_run, layer)

    def release() -> None:
        for layer in layers:
            vars(layer).pop("forward", None)

    return release


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _run(layer: nn.Module, *args: Any) -> Any:
    with _Shared():
        return type(layer).forward(layer, *args)


class _Shared(TorchFunctionMode):
    """Inside, batch norms that look at a batch look at that of all processes."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(zip(ARGUMENTS, args, strict=False)) | (kwargs or {})
        if func is F.batch_norm and given.get("training"):
            return batch_norm(**given)
        return func(*args, **(kwargs or {}))


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``F.batch_norm`` in training, of (B, C, ...) in each process, which all have as many images.

    The running averages move alike in all processes.
    """
    if input.is_cuda:
        group, size = distributed.group.WORLD, distributed.get_world_size()
        of_all = weight, bias, running_mean, running_var
        found: Tensor = SyncBatchNorm.apply(input, *of_all, eps, momentum, group, size)
        return found
    with torch.no_grad():
        var, mean = torch.var_mean(_wide(input), _places(input), correction=0)  # (C,)
        shares = collective.stacked(torch.stack([mean, var]))  # (world, 2, C)
        # of equally many values each: the variance within the shares, and that of their means
        mean, var = shares[:, 0].mean(0), shares.mean(0)[1] + shares[:, 0].var(0, correction=0)
        count = len(shares) * input.numel() // input.shape[1]
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((var * count / (count - 1)).to(running_var), momentum)
    normalised: Tensor = _Normalised.apply(input, weight, bias, mean, var, eps)
    return normalised


class _Normalised(torch.autograd.Function):
    """Subtract a mean and divide by a deviation that themselves depend on all processes' input."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(input, weight, mean, (var + eps).rsqrt())
        return F.batch_norm(input, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        input, weight, mean, scale = ctx.saved_tensors
        places, column = _places(input), (-1, *(1,) * (input.ndim - 2))
        gradient = _wide(gradients[0])
        normed = (_wide(input) - mean.view(column)) * scale.view(column)
        own = torch.stack([gradient.sum(places), (gradient * normed).sum(places)])  # (2, C)
        every = collective.mean(own) / (input.numel() // input.shape[1])
        back = gradient - every[0].view(column) - normed * every[1].view(column)
        back *= (scale if weight is None else scale * weight).view(column)
        wanted = ctx.needs_input_grad
        return (
            back.to(input.dtype),
            *(own[i] if wanted[2 - i] else None for i in (1, 0)),
            *[None] * 3,
        )


def _places(input: Tensor) -> list[int]:
    """All dimensions but the channels."""
    return [dim for dim in range(input.ndim) if dim != 1]


def _wide(input: Tensor) -> Tensor:
    """In float32 at least: sums of half precision are no use."""
    return input if input.dtype == torch.float64 else input.float()
