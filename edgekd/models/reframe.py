"""Reframe: show one network's batch to another that expects other values or another size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.preprocess import Preprocess


class Reframe(nn.Module):
    """Undo one normalisation, do another, and resize where the sizes differ.

    Args:
        shown: how the batch was made.
        wanted: what the network expects.
    """

    def __init__(self, shown: Preprocess, wanted: Preprocess) -> None:
        super().__init__()
        pairs = list(zip(shown.mean, shown.std, wanted.mean, wanted.std, strict=True))
        self.same_values = all(a == c and b == d for a, b, c, d in pairs)
        self.size = None if shown.size == wanted.size else wanted.size
        self.scale: Tensor
        self.shift: Tensor
        scale = torch.tensor([std / new_std for _, std, _, new_std in pairs])
        shift = torch.tensor([(mean - new) / new_std for mean, _, new, new_std in pairs])
        self.register_buffer("scale", scale.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 3, h, w)."""
        if not self.same_values:
            image = torch.addcmul(self.shift, image, self.scale)
        if self.size is not None:
            image = F.interpolate(image, self.size, mode="bilinear", antialias=True)
        return image
