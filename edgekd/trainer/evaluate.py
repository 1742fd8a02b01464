"""Evaluate a network on every image of a split, in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from edgekd.data import Loader


@dataclass(frozen=True)
class Scores:
    """How well a network does on n images."""

    top1: float
    top5: float
    loss: float
    n: int
    predictions: NDArray[np.int64]
    """(n,) the class it chose for each image, in the split's order."""
    targets: NDArray[np.int64]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(n,) where it was right."""
        right: NDArray[np.bool_] = self.predictions == self.targets
        return right

    def to_dict(self) -> dict[str, Any]:
        """The figures, without the single images."""
        return {"top1": self.top1, "top5": self.top5, "loss": self.loss, "n": self.n}


@torch.no_grad()
def evaluate(model: nn.Module, loader: Loader, torch_device: torch.device) -> Scores:
    """Run ``model`` in evaluation mode over ``loader``; its mode is put back afterwards.

    Returns:
        Top-1 and top-5 in [0, 1] (top-5 over fewer classes is 1), and the mean cross-entropy.
    """
    training = model.training
    model.to(torch_device).eval()
    chosen, wanted, top5, loss = [], [], 0, 0.0
    for batch in loader.epoch(0):
        logits = model(batch.image.to(torch_device)).float().cpu()  # (B, K)
        ranked = logits.topk(min(5, logits.shape[1])).indices  # (B, 5)
        chosen.append(ranked[:, 0])
        wanted.append(batch.target)
        top5 += int((ranked == batch.target[:, None]).sum())
        loss += float(F.cross_entropy(logits, batch.target, reduction="sum"))
    model.train(training)
    predictions, targets = torch.cat(chosen).numpy(), torch.cat(wanted).numpy()
    n = len(targets)
    top1 = float((predictions == targets).mean())
    return Scores(top1, top5 / n, loss / n, n, predictions, targets)
