"""torchvision's data sets are read from a folder of the user's own, without a network."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.data.torchvision import torchvision
from edgekd.errors import DataError

Grey = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture
def mnist(tmp_path: Path) -> tuple[Path, Grey]:
    """MNIST's four files, with five images to train on and three to test with."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 28, 28), dtype=np.uint8)
    labels = np.array([5, 0, 4, 1, 9, 7, 2, 1], np.uint8)
    for name, rows in (("train", slice(0, 5)), ("t10k", slice(5, 8))):
        images, classes = pixels[rows], labels[rows]
        head = struct.pack(">IIII", 2051, *images.shape)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = struct.pack(">II", 2049, len(classes))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(head + classes.tobytes())
    return tmp_path, pixels


def test_a_set_is_read_from_a_folder_of_one_s_own(mnist: tuple[Path, Grey]) -> None:
    folder, pixels = mnist
    source = torchvision(f"mnist@{folder}")
    train, test = source.splits["train"], source.splits["test"]
    assert train.targets.tolist() == [5, 0, 4, 1, 9]
    assert test.targets.tolist() == [7, 2, 1]
    assert train.targets.dtype == np.int64
    assert (np.asarray(train.image(3)) == pixels[3]).all()
    assert (np.asarray(test.image(0)) == pixels[5]).all()
    assert train.name(3) == "mnist[3]"


def test_class_names_are_torchvision_s_and_digits_are_not_mirrored(
    mnist: tuple[Path, Grey],
) -> None:
    source = torchvision(f"mnist@{mnist[0]}")
    assert len(source.labels) == 10
    assert source.labels[3] == "3 - three"
    assert source.augment == "shift"


def test_an_unknown_set_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"torchvision's 'cifar11' cannot be had: .*cifar11") as no:
        torchvision(f"cifar11@{tmp_path}")
    assert "torchvision/NAME@FOLDER" in str(no.value)


def test_a_set_that_cannot_be_fetched_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*args: Any, **options: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("torchvision.datasets.utils.urllib.request.urlopen", unreachable)
    with pytest.raises(DataError, match="'kmnist' cannot be had: "):
        torchvision(f"kmnist@{tmp_path}")
