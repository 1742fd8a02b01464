"""Rehearsal: try a method on two networks before any image is read, to refuse it early."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Method
from edgekd.models import Backbone, Tap
from edgekd.models.reframe import Reframe


def rehearse(method: Method, student: Backbone, other: Backbone | None, targets: Tensor) -> None:
    """Refuse a method that cannot work with these networks; nothing is changed.

    Args:
        method: not built yet; it stays so.
        student: the network to train.
        other: its teacher or its peer; ``None`` for a student alone.
        targets: (N,) classes of the training images.

    Raises:
        RecipeError: a stage there is not, more keys than the teacher has maps, maps of one place.
    """
    with torch.random.fork_rng(), torch.no_grad():
        image = torch.rand(2, *student.example.shape[1:], generator=torch.Generator())
        shown = _shown(student, method, image)
        seen = shown
        if other is not None:
            seen = _shown(other, method, Reframe(student.preprocess, other.preprocess)(image))
        tried = copy.deepcopy(method)
        tried.build(shown, seen, targets)
        tried.attempt(shown, seen, Batch(image, targets[:2], torch.arange(2)))


def _shown(network: Backbone, method: Method, image: Tensor) -> Features:
    model = copy.deepcopy(network.model).cpu().eval()
    features: Features = Tap(model, method.needs, network.example)(image)
    return features.float()
