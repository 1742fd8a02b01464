"""Images in unexpected places are refused, never relabelled."""

from __future__ import annotations

import os
import tarfile
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


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_an_image_that_is_written_anew_has_another_stamp(tmp_path: Path, kind: str) -> None:
    """With the same name and size, among more images than a digest looks at."""
    put(tmp_path / "set", *(f"{label}/{row}.png" for label in "ab" for row in range(3)))
    root = tmp_path / "set"
    if kind == "tar":
        root = tmp_path / "set.tar"
        with tarfile.open(root, "w") as tar:
            tar.add(tmp_path / "set", arcname=".")
    split = folder(str(root)).splits["train"]
    before, whole, names = [split.stamp(i) for i in range(6)], split.stamps(), split.digest()
    part = split.subset(np.array([4, 1]))
    assert [part.stamp(0), part.stamp(1)] == [before[4], before[1]]
    os.utime(root if kind == "tar" else root / "a/1.png", ns=(1, 1))
    same = [split.stamp(i) == before[i] for i in range(6)]
    assert same == ([False] * 6 if kind == "tar" else [True, False, *[True] * 4])
    assert split.stamps() != whole
    assert split.digest() == names  # a training that was cut off goes on
