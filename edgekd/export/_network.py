"""The form of a network that is exported: branches merged, preprocessing inside."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from edgekd.errors import WeightsError
from edgekd.preprocess import Preprocess

__all__ = ["Baked", "check_weights", "parameters", "reference", "reparameterised", "weight_bytes"]


class Baked(nn.Module):
    """Pixels to logits: (B, H, W, 3) uint8 RGB to (B, K), the normalisation inside the graph."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("scale", torch.tensor(preprocess.scale).view(1, 3, 1, 1))
        self.register_buffer("shift", torch.tensor(preprocess.shift).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        # Cast comes first because TensorRT takes uint8 for nothing else. Without contiguous() the
        # exporter sees a channels-last tensor, and writes the average pool as Range and Gather.
        pixels = images.to(torch.float32).permute(0, 3, 1, 2).contiguous()  # (B, 3, H, W)
        logits: Tensor = self.network(pixels * self.scale + self.shift)
        return logits


def reference(model: nn.Module) -> nn.Module:
    """A copy on the CPU, in float32 and evaluation mode: what an exported file must equal."""
    return copy.deepcopy(model).cpu().float().eval().requires_grad_(False)


def reparameterised(network: nn.Module) -> nn.Module:
    """A copy whose training-time branches are merged into single convolutions.

    It also folds the batch norms of identity branches, which no exporter can.
    """
    from timm.utils.model import reparameterize_model

    merged: nn.Module = reparameterize_model(network)
    return merged.eval()


def check_weights(network: nn.Module, name: str) -> None:
    """Refuse weights that no file can be made of, before hours go into it.

    Minus infinity is allowed in buffers: attention masks are made of it.

    Raises:
        WeightsError: a weight or a buffer is NaN or infinite.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() or bool(tensor.isfinite().all()):
            continue
        bad = ~tensor.isfinite()
        if not isinstance(tensor, nn.Parameter):
            bad &= ~tensor.isneginf()
        if count := int(bad.sum()):
            raise WeightsError(
                f"{name} cannot be exported: {count} of the {tensor.numel()} values of {key} are "
                "NaN or infinite. The training diverged, or the file is damaged: choose another "
                "checkpoint, or train again."
            )


def parameters(network: nn.Module) -> int:
    """Number of learned values."""
    return sum(p.numel() for p in network.parameters())


def weight_bytes(network: nn.Module) -> int:
    """Size of all weights and buffers."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
