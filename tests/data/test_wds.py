"""WebDataset shards are read whole or not at all."""

from __future__ import annotations

import gc
import io
import json
import sys
import tarfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekd.data.wds import wds
from edgekd.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

Picture = Callable[[int], Image.Image]
Shards = Callable[..., Path]


@pytest.fixture
def shards(tmp_path: Path, picture: Picture) -> Shards:
    """Write ``train-0.tar``, ``train-1.tar``, ``test-0.tar`` and their description."""

    def make(damaged: int = -1, **info: Any) -> Path:
        number = 0
        for name, count in (("train-0", 3), ("train-1", 2), ("test-0", 2)):
            with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
                for _ in range(count):
                    file = io.BytesIO()
                    picture(number).save(file, "PNG")
                    data = b"\x89PNG no more" if number == damaged else file.getvalue()
                    _add(tar, f"{number:04}.png", data)
                    _add(tar, f"{number:04}.cls", str(number % 3).encode())
                    number += 1
        splits = {
            "train": _described("train", ["train-0.tar", "train-1.tar"], [3, 2]),
            "test": _described("test", ["test-0.tar"], [2]),
        }
        (tmp_path / "_info.json").write_text(json.dumps({"splits": splits, **info}))
        return tmp_path

    return make


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _described(name: str, files: list[str], lengths: list[int]) -> dict[str, Any]:
    return {
        "name": name,
        "filenames": files,
        "shard_lengths": lengths,
        "num_samples": sum(lengths),
    }


@pytest.fixture
def needs_webdataset() -> Iterator[None]:
    """The package, which leaves the closing of its shards to the garbage collector."""
    pytest.importorskip("webdataset")
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.usefixtures("needs_webdataset")
def test_shards_are_read_in_order(shards: Shards, picture: Picture) -> None:
    folder = shards()
    source = wds(str(folder))
    train, test = source.splits["train"], source.splits["test"]
    assert train.targets.tolist() == [0, 1, 2, 0, 1]
    assert test.targets.tolist() == [2, 0]
    assert source.labels == ("0", "1", "2")
    assert (np.asarray(train.image(3)) == np.asarray(picture(3))).all()
    assert (np.asarray(test.image(1)) == np.asarray(picture(6))).all()
    assert train.name(3) == f"{folder} train[3]"


@pytest.mark.usefixtures("needs_webdataset")
def test_class_names_come_from_the_description(shards: Shards) -> None:
    assert wds(str(shards(class_names=["cat", "dog", "emu"]))).labels == ("cat", "dog", "emu")


@pytest.mark.usefixtures("needs_webdataset")
def test_too_few_class_names_are_refused(shards: Shards) -> None:
    with pytest.raises(DataError, match=r"names 2 classes, .*3 classes"):
        wds(str(shards(class_names=["cat", "dog"])))


@pytest.mark.usefixtures("needs_webdataset")
def test_a_damaged_image_does_not_make_a_shorter_set(shards: Shards) -> None:
    with pytest.raises(DataError, match=r"holds 4 readable train images, its _info.json says 5"):
        wds(str(shards(damaged=1)))


@pytest.mark.usefixtures("needs_webdataset")
def test_a_missing_shard_is_refused(shards: Shards) -> None:
    folder = shards()
    (folder / "train-1.tar").unlink()
    with pytest.raises(DataError, match=r"holds 3 readable train images, its _info.json says 5"):
        wds(str(folder))


def test_a_description_without_train_is_refused(shards: Shards) -> None:
    with pytest.raises(DataError, match="lists no split named train"):
        wds(str(shards(splits={})))


@pytest.mark.parametrize("content", [None, "{", "[]", '{"splits": 3}'])
def test_a_folder_without_a_description_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "_info.json").write_text(content)
    with pytest.raises(DataError, match=r"_info.json cannot be read: .* Expected shards and a"):
        wds(str(tmp_path))


@pytest.mark.usefixtures("needs_webdataset")
def test_a_split_without_its_lengths_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_info.json").write_text('{"splits": {"train": {}}}')
    with pytest.raises(DataError, match=r"the shards in .* cannot be read: 'num_samples'"):
        wds(str(tmp_path))


def test_the_missing_package_is_named_with_the_command(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(DataError, match="webdataset, which is not installed: pip install"):
        wds(str(shards()))
