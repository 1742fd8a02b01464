"""What two networks may have shown for one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Term

BATCH, CLASSES = 6, 5
TARGETS = torch.arange(40) * 3 % CLASSES
"""Classes of the forty training images the batches are drawn from."""


class Shapes(NamedTuple):
    """Channels and side of each stage, fine to coarse."""

    student: Sequence[tuple[int, int]]
    teacher: Sequence[tuple[int, int]]


SHAPES = {
    "alike": Shapes([(4, 8), (6, 4), (8, 2)], [(4, 8), (6, 4), (8, 2)]),
    "a wider teacher": Shapes([(4, 8), (6, 4), (8, 2)], [(8, 8), (10, 4), (16, 2)]),
    "a finer teacher": Shapes([(4, 8), (6, 4), (8, 2)], [(8, 16), (10, 8), (16, 4)]),
    "a coarser teacher": Shapes([(4, 14), (6, 7)], [(8, 10), (10, 5)]),
    "a deeper teacher": Shapes([(6, 4), (8, 2)], [(3, 16), (4, 8), (9, 4), (16, 2)]),
    "a shallower teacher": Shapes([(3, 16), (4, 8), (6, 4), (8, 2)], [(9, 4), (16, 2)]),
}


@pytest.fixture(scope="session")
def shown() -> Callable[..., Features]:
    """Features of seeded noise, with a block before the map of each stage."""

    def make(stages: Sequence[tuple[int, int]], seed: int, grad: bool = False) -> Features:
        source = torch.Generator().manual_seed(seed)

        def noise(*shape: int) -> Tensor:
            return torch.randn(BATCH, *shape, generator=source).requires_grad_(grad)

        maps = tuple(noise(channels, side, side) for channels, side in stages)
        blocks = tuple((noise(*map_.shape[1:]), map_) for map_ in maps)
        preacts = tuple(noise(channels, side, side) for channels, side in stages)
        return Features(noise(CLASSES), noise(stages[-1][0]), maps, preacts, blocks)

    return make


@pytest.fixture(scope="session")
def batch() -> Batch:
    image = torch.zeros(BATCH, 3, 8, 8)
    index = torch.tensor([5, 3, 39, 14, 0, 20])
    return Batch(image, TARGETS[index], index, 0.5)


@pytest.fixture(scope="session")
def built() -> Callable[[Term, Features, Features], Term]:
    """A term with its adapters, the same every time."""

    def make(term: Term, student: Features, teacher: Features) -> Term:
        torch.manual_seed(0)
        with torch.no_grad():
            term.build(student, teacher, TARGETS)
        return term

    return make


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "shapes" in metafunc.fixturenames:
        metafunc.parametrize("shapes", SHAPES.values(), ids=SHAPES.keys())
