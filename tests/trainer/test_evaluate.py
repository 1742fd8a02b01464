"""Evaluate: the same figures as a loop over single images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekd.data import Images
from edgekd.loading import Splits, eval_loader
from edgekd.loading.memory import EvalLoader
from edgekd.models import Backbone
from edgekd.preprocess import Preprocess
from edgekd.recipe import Data
from edgekd.trainer import Scores, evaluate

CPU = torch.device("cpu")


def test_equals_one_image_at_a_time(splits: Splits, network: Callable[..., Backbone]) -> None:
    backbone = network()
    model = backbone.model.train()
    loader = eval_loader(splits.test, backbone.preprocess, Data("digits", size=8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = evaluate(model, loader, CPU)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    model.eval()
    right, among, losses, chosen = 0, 0, [], []
    with torch.no_grad():
        for batch in loader.epoch(0):
            for image, target in zip(batch.image, batch.target, strict=True):
                logits = model(image[None])[0]
                ranked = logits.argsort(descending=True)
                chosen.append(int(ranked[0]))
                right += int(ranked[0] == target)
                among += int(target in ranked[:5])
                losses.append(float(F.cross_entropy(logits, target)))
    n = len(splits.test)
    assert found.n == n
    assert found.top1 == right / n
    assert found.top5 == among / n
    assert found.loss == pytest.approx(float(np.mean(losses)), rel=1e-4)
    assert found.predictions.tolist() == chosen
    assert found.targets.tolist() == splits.test.targets.tolist()
    assert found.correct.sum() == right
    assert set(found.to_dict()) == {"top1", "top5", "loss", "n"}


def test_top_five_of_fewer_classes_is_everything() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    images = Images(pixels, np.arange(10) % 3)
    loader = EvalLoader(images, Preprocess((8, 8), (0.5,) * 3, (0.5,) * 3), batch_size=4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    found = evaluate(model, loader, CPU)
    assert found.top5 == 1.0
    assert found.n == 10


def test_a_loss_that_json_cannot_hold_is_left_out() -> None:
    """An artifact is written of it, and one image may overflow."""
    for loss, told in ((1.5, 1.5), (float("inf"), None), (float("nan"), None)):
        found = Scores(0.5, 1.0, loss, 2, np.array([0, 1]), np.array([0, 0]))
        assert found.to_dict() == {"top1": 0.5, "top5": 1.0, "loss": told, "n": 2}
