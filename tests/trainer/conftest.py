"""Small trainings on scikit-learn's digits: 8x8 pixels, 5 steps an epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.loading import Loaders, Splits, loaders, open_splits
from edgekd.methods import Method
from edgekd.models import Backbone, build
from edgekd.recipe import Data, Network, Train
from edgekd.trainer import Task

DATA = Data("digits", size=8, limit=200, validation=0.2)
TRAIN = Train(epochs=3, batch_size=32, precision="fp32", warmup_epochs=0.5, log_steps=2)

MakeTask = Callable[..., Task]


@pytest.fixture(scope="session")
def splits() -> Splits:
    return open_splits(DATA)


@pytest.fixture(scope="session")
def network(splits: Splits) -> Callable[..., Backbone]:
    """A fresh network; equal names and seeds give equal weights."""

    def make(name: str = "resnet8", seed: int = 0) -> Backbone:
        torch.manual_seed(seed)
        return build(Network(name), splits.labels, DATA.size)

    return make


@pytest.fixture
def task(tmp_path: Path, splits: Splits, network: Callable[..., Backbone]) -> MakeTask:
    """A training from scratch in ``folder``, as if by a new process."""
    stored: dict[Train, Loaders] = {}

    def make(method: str = "ce", folder: str = "one", teacher: str = "", **settings: Any) -> Task:
        train = replace(TRAIN, **settings)
        student = network(seed=train.seed)
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        if train not in stored:
            stored[train] = loaders(splits, student.preprocess, DATA, train)
        shown = network(teacher, seed=1) if teacher else None
        return Task(student, shown, Method.parse(method), stored[train], train, place, "f" * 8)

    return make
