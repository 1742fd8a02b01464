"""Sets of the Hugging Face hub, as timm's reader shows them; the hub itself is not asked."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekd.data.hf import hf
from edgekd.errors import DataError


class Reader:
    """What timm's reader shows of a set of ``count`` images in two classes."""

    def __init__(self, count: int) -> None:
        self.class_to_idx = {"dog": 1, "cat": 0}
        self._count = count

    def __getitem__(self, index: int) -> tuple[io.BytesIO, int]:
        file = io.BytesIO()
        Image.new("L", (5, 4), index).save(file, "PNG")
        return io.BytesIO(file.getvalue()), index % 2

    def iter_targets(self) -> Iterator[int]:
        return (index % 2 for index in range(self._count))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Split to number of images, or to what the client raises; nothing is fetched."""
    holds: dict[str, Any] = {}

    def create_reader(name: str, split: str) -> Reader:
        assert name == "hfds/org/pets"
        found = holds.get(split, ValueError(f'Unknown split "{split}". Should be one of [...]'))
        if isinstance(found, Exception):
            raise found
        return Reader(found)

    monkeypatch.setitem(sys.modules, "datasets", ModuleType("datasets"))
    monkeypatch.setattr("timm.data.readers.create_reader", create_reader)
    return holds


def test_the_splits_there_are_become_splits(hub: dict[str, Any]) -> None:
    hub.update(train=5, valid=3)
    source = hf("org/pets")
    assert {name: len(split) for name, split in source.splits.items()} == {
        "train": 5,
        "validation": 3,
    }
    assert source.labels == ("cat", "dog")
    train = source.splits["train"]
    assert train.targets.tolist() == [0, 1, 0, 1, 0]
    assert np.asarray(train.image(3)).tolist() == [[3] * 5] * 4
    assert train.name(3) == "org/pets[3]"


def test_a_set_without_train_is_refused(hub: dict[str, Any]) -> None:
    hub.update(test=5)
    with pytest.raises(DataError, match="'org/pets' cannot be had: Unknown split \"train\""):
        hf("org/pets")


def test_an_unreachable_hub_is_not_taken_for_a_missing_split(hub: dict[str, Any]) -> None:
    hub.update(train=5, validation=ConnectionError("cannot reach the hub\nlong traceback"))
    with pytest.raises(DataError, match=r"'org/pets' cannot be had: cannot reach the hub$"):
        hf("org/pets")


def test_the_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="datasets, which is not installed: pip install datasets"):
        hf("org/pets")
