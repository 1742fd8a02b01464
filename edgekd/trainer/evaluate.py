"""Evaluate a network on every image of a split, in float32."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Loader
from edgekd.trainer import collective


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
        loss = self.loss if math.isfinite(self.loss) else None  # JSON has no infinities
        return {"top1": self.top1, "top5": self.top5, "loss": loss, "n": self.n}


@torch.no_grad()
def evaluate(model: nn.Module, loader: Loader, torch_device: torch.device) -> Scores:
    """Run ``model`` in evaluation mode over ``loader``; its mode is put back afterwards.

    Returns:
        The same in each of several processes, each of which sees its share of the images: top-1 and
        top-5 in [0, 1] (top-5 over fewer classes is 1), and the mean cross-entropy.
    """
    training = model.training
    model.to(torch_device).eval()
    seen, chosen, wanted, top5, loss = [], [], [], 0, 0.0
    for batch in loader.epoch(0):
        if len(batch.index):  # there is none in some shares of a small last batch
            image = batch.image.to(torch_device)
        # asked all the same: a network may lie in parts on all processes
        logits = model(image)[: len(batch.index)].float().cpu()  # (B, K)
        ranked = logits.topk(min(5, logits.shape[1])).indices  # (B, 5)
        seen.append(batch.index)
        chosen.append(ranked[:, 0])
        wanted.append(batch.target)
        top5 += int((ranked == batch.target[:, None]).sum())
        loss += float(F.cross_entropy(logits, batch.target, reduction="sum"))
    model.train(training)
    index, predictions, targets = (torch.cat(parts) for parts in (seen, chosen, wanted))
    n = len(loader.targets)
    if len(index) < n:  # the others have seen the rest
        predictions, targets = (_spread(own, index, n) for own in (predictions, targets))
        top5, loss = collective.total(torch.tensor([top5, loss], dtype=torch.float64)).tolist()
    found = predictions.numpy(), targets.numpy()
    top1 = float((found[0] == found[1]).mean())
    return Scores(top1, top5 / n, loss / n, n, *found)


def _spread(own: Tensor, index: Tensor, count: int) -> Tensor:
    """(count,): what each process has of the images ``index``, in the split's order."""
    return collective.total(own.new_zeros(count).index_copy_(0, index, own))
