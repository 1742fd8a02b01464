"""Images in unexpected places are refused, never relabelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekd.data.folder import folder
from edgekd.errors import DataError
from edgekd.loading import check_labels, open_splits
from edgekd.recipe import Data


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / name)


def test_deeper_folders_are_not_merged_by_their_last_name(tmp_path: Path) -> None:
    put(tmp_path, "cat/white/1.png", "dog/white/1.png", "dog/black/1.png")
    with pytest.raises(DataError, match=r"dog/black/1\.png .* does not lie in a class folder"):
        folder(str(tmp_path))


def test_a_stray_image_makes_no_nameless_class(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png", "dog/1.png", "logo.png")
    with pytest.raises(DataError, match=r"logo\.png .* does not lie in a class folder"):
        folder(str(tmp_path))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    put(tmp_path, "bus/1.png", "car/1.png", "train/1.png")
    assert folder(str(tmp_path)).labels == ("bus", "car", "train")


def test_classes_a_split_lacks_are_noted(tmp_path: Path) -> None:
    put(tmp_path, *(f"train/{c}/{i}.png" for c in "ab" for i in range(4)), "test/a/1.png")
    splits = open_splits(Data(str(tmp_path)))
    assert splits.notes == ("no test images of 1 classes: b",)


def test_other_classes_or_another_order_are_refused() -> None:
    splits = open_splits(Data("digits"))
    check_labels(splits, splits.labels, "the model")
    with pytest.raises(DataError, match="the model tells 10: 9, 8, 7, 6"):
        check_labels(splits, splits.labels[::-1], "the model")
