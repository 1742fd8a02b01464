"""Networks of random weights whose normalisation does something, and pictures to show them."""

from __future__ import annotations

import torch
from torch import nn

from edgekd.data import Pixels
from edgekd.export._network import reference
from edgekd.loading import open_splits
from edgekd.loading.decode import decode
from edgekd.models import Backbone, zoo
from edgekd.preprocess import Preprocess
from edgekd.recipe import Data

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def random_network(name: str, side: int, classes: int = 10) -> Backbone:
    """A network for pictures of that side, in evaluation mode; the same weights each time."""
    torch.manual_seed(0)
    network = reference(with_statistics(zoo.create(name, classes)))
    preprocess = Preprocess((side, side), MEAN, STD)
    return Backbone(name, network, preprocess, tuple(map(str, range(classes))))


def with_statistics(model: nn.Module) -> nn.Module:
    """Fresh batch norms would hide a fold that went wrong, and timm begins some with zero."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.2)
            assert norm.running_mean is not None and norm.running_var is not None  # noqa: PT018
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 1.5)
    return model


def pictures(preprocess: Preprocess, count: int = 64) -> Pixels:
    """Digits, (N, H, W, 3)."""
    splits = open_splits(Data())
    chosen = splits.test.subset(splits.test.targets.argsort()[:count])
    return decode(chosen, preprocess).pixels
