"""Images in unexpected places are refused, never relabelled."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekd.data._places import Places, natural
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
    assert splits.notes == ("no test images of one class: b",)


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


def test_a_number_may_have_more_digits_than_python_reads() -> None:
    ones, twos = "1" * 5000, "2" * 5000
    assert sorted([f"{twos}.png", f"{ones}.png", "9.png"], key=natural) == [
        "9.png",
        f"{ones}.png",
        f"{twos}.png",
    ]


def test_an_image_of_a_tar_takes_no_more_memory_than_any(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"")
    where = np.zeros(1, np.int64)
    places = Places((tmp_path / "a.tar",), where, where, where + 2**40)
    with pytest.raises(OSError, match="1,099,511,627,776 bytes; expected at most"):
        places.read(0)


@pytest.mark.parametrize("above", ["/etc", "../..", "/", "./"])
def test_names_in_a_tar_lead_nowhere(above: str, tmp_path: Path) -> None:
    """They name classes and images; nothing is unpacked."""
    put(tmp_path / "here", "1.png")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for label in ("cat", "dog"):
            info = tarfile.TarInfo(f"{above}/{label}/1.png")
            info.size = (tmp_path / "here" / "1.png").stat().st_size
            with (tmp_path / "here" / "1.png").open("rb") as file:
                tar.addfile(info, file)
    before = sorted(tmp_path.rglob("*"))
    found = folder(str(tmp_path / "a.tar"))
    assert found.labels == ("cat", "dog")
    assert [found.splits["train"].image(row).size for row in (0, 1)] == [(8, 8), (8, 8)]
    assert sorted(tmp_path.rglob("*")) == before


def test_classes_that_differ_in_case_alone_are_noted(tmp_path: Path) -> None:
    """Letters of both cases may be meant, so that they are no error."""
    put(tmp_path, *(f"{label}/{n}.png" for label in ("a", "A", "b") for n in range(4)))
    assert open_splits(Data(str(tmp_path))).notes == ("classes that differ in case alone: A and a",)
