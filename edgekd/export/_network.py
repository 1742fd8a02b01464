"""The form of a network that is exported: branches merged, preprocessing inside."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from edgekd.preprocess import Preprocess

__all__ = ["Baked", "parameters", "reference", "reparameterised"]


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


def parameters(network: nn.Module) -> int:
    """Number of learned values."""
    return sum(p.numel() for p in network.parameters())
