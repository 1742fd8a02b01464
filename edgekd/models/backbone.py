"""Backbone: a network, and what belongs to its weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgekd.errors import UsageError
from edgekd.models.licences import Licences
from edgekd.preprocess import Preprocess


@dataclass(frozen=True)
class Backbone:
    """A network, and what belongs to its weights.

    To distil a network of your own, fill one of these and hand it to ``edgekd.distill``.
    """

    name: str
    """How ``edgekd.models.zoo.create`` makes it again."""
    model: nn.Module
    """(B, 3, H, W) normalised images to (B, K) logits."""
    preprocess: Preprocess
    labels: tuple[str, ...]
    """Class names, in the order of the logits."""
    parent: str = ""
    """sha256 of the artifact the weights came from, where they did."""
    licences: Licences = None
    """Terms of the published weights in it, and in those it learned from; None: nobody said."""

    @property
    def parameters(self) -> int:
        """Number of learned values."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def example(self) -> Tensor:
        """A grey image of the size the network expects, (1, 3, H, W)."""
        return torch.zeros(1, 3, *self.preprocess.size)

    def macs(self) -> int:
        """Multiply-accumulates of one image, counted by running it on shapes alone.

        Raises:
            UsageError: the network cannot take images of that size.
        """
        model = copy.deepcopy(self.model).to("meta").eval()
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                model(self.example.to("meta"))
        except (RuntimeError, AssertionError, ValueError) as error:
            size = "x".join(map(str, self.preprocess.size))
            raise UsageError(
                f"{self.name} cannot take images of {size} pixels: "
                f"{str(error).partition('. ')[0]}. Choose another data.size."
            ) from error
        return int(counter.get_total_flops()) // 2


def freeze(model: nn.Module) -> nn.Module:
    """Evaluation mode, and no gradient for any parameter."""
    return model.eval().requires_grad_(False)
