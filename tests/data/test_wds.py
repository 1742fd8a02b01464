"""WebDataset shards are read whole or not at all."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekd.data.wds import wds
from edgekd.errors import DataError
from edgekd.loading.decode import open_rgb

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


def test_shards_are_read_in_order(shards: Shards, picture: Picture) -> None:
    folder = shards()
    source = wds(str(folder))
    train, test = source.splits["train"], source.splits["test"]
    assert train.targets.tolist() == [0, 1, 2, 0, 1]
    assert test.targets.tolist() == [2, 0]
    assert source.labels == ("0", "1", "2")
    assert (np.asarray(train.image(3)) == np.asarray(picture(3))).all()
    assert (np.asarray(test.image(1)) == np.asarray(picture(6))).all()
    assert train.name(3) == f"{folder}/train-1.tar/0003.png"


def test_a_shard_that_is_written_anew_gives_its_images_other_stamps(shards: Shards) -> None:
    root = shards()
    split = wds(str(root)).splits["train"]
    stamps = [split.stamp(row) for row in range(len(split))]
    assert len(set(stamps)) == len(split)
    whole = split.stamps()
    os.utime(root / "train-1.tar", ns=(1, 1))
    now = [split.stamp(row) == stamp for row, stamp in enumerate(stamps)]
    assert now == [True, True, True, False, False]
    assert split.stamps() != whole


def test_class_names_come_from_the_description(shards: Shards) -> None:
    assert wds(str(shards(class_names=["cat", "dog", "emu"]))).labels == ("cat", "dog", "emu")


def test_too_few_class_names_are_refused(shards: Shards) -> None:
    with pytest.raises(DataError, match=r"names 2 classes, .*3 classes"):
        wds(str(shards(class_names=["cat", "dog"])))


def test_a_damaged_image_is_named_when_it_is_read(shards: Shards) -> None:
    split = wds(str(shards(damaged=1))).splits["train"]
    with pytest.raises(DataError, match=r"cannot read image .*train-0\.tar/0001\.png: it is of n"):
        open_rgb(split, 1)


def test_a_missing_shard_is_refused(shards: Shards) -> None:
    folder = shards()
    (folder / "train-1.tar").unlink()
    with pytest.raises(DataError, match=r"shard .*train-1\.tar cannot be read: .*No such file"):
        wds(str(folder))


@pytest.mark.parametrize(
    ("kept", "reason"),
    [(700, "unexpected end of data"), (4096, r"cannot be read: it is cut off \(.*; copy it ag")],
)
def test_a_shard_that_was_cut_short_is_refused(shards: Shards, kept: int, reason: str) -> None:
    shard = shards() / "train-0.tar"
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(DataError, match=reason):
        wds(str(shard.parent))


def test_what_is_of_no_sample_is_passed_over(shards: Shards) -> None:
    shard = shards() / "train-1.tar"
    packed = io.BytesIO()
    with tarfile.open(shard) as old, tarfile.open(fileobj=packed, mode="w") as tar:
        _add(tar, "__index__.json", b"{}")
        for member in old:
            found = old.extractfile(member)
            assert found is not None
            _add(tar, f"._{member.name}", b"what macOS keeps")
            _add(tar, member.name, found.read())
    shard.write_bytes(packed.getvalue())
    assert len(wds(str(shard.parent)).splits["train"]) == 5


def test_a_shard_with_a_broken_header_in_it_is_no_shorter_shard(shards: Shards) -> None:
    shard = shards() / "train-0.tar"
    content = bytearray(shard.read_bytes())
    second = content.index(b"0001.png")
    content[second] ^= 1  # its checksum is wrong now, and tarfile takes that for the end
    shard.write_bytes(content)
    with pytest.raises(DataError, match=rf"cannot be read: invalid header at byte {second}\. Repl"):
        wds(str(shard.parent))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "0003.cls",
            b"cat",
            r"its cls does not tell the class of the sample 0003: it holds 'cat'; expected a nu",
        ),
        ("0003.cls", b"-1", "the class of the sample 0003 is -1; expected 0 to"),
        (
            "0003.txt",
            b"1",
            "the sample 0003 has png, txt; expected one of jpg, png, webp, jpeg, an",
        ),
        ("0003.png", b"1", r"the sample 0003 has two files \.png"),
        ("0004.cls", b"1", "the sample 0003 has png; expected"),
    ],
)
def test_a_sample_without_its_parts_is_refused_by_name(
    shards: Shards, name: str, content: bytes, reason: str
) -> None:
    folder = shards()
    with tarfile.open(folder / "train-1.tar", "w") as tar:
        _add(tar, "0003.png", b"")
        _add(tar, name, content)
    with pytest.raises(DataError, match=rf"shard .*train-1\.tar cannot be read: {reason}"):
        wds(str(folder))


def test_a_sample_that_comes_again_is_refused(shards: Shards) -> None:
    folder = shards()
    with tarfile.open(folder / "train-1.tar", "a") as tar:
        _add(tar, "0003.png", b"")
        _add(tar, "0003.cls", b"1")
    with pytest.raises(
        DataError, match=r"train-1\.tar cannot be read: the sample 0003 is there tw"
    ):
        wds(str(folder))


def test_the_class_may_be_in_the_json(shards: Shards, picture: Picture) -> None:
    folder = shards()
    with tarfile.open(folder / "train-0.tar", "w") as tar:
        for number, said in enumerate((4, 0, 2)):
            file = io.BytesIO()
            picture(number).save(file, "JPEG")
            _add(tar, f"a.b/{number}.seg.png", b"a mask, which is not the image")
            _add(tar, f"a.b/{number}.JPEG", file.getvalue())
            _add(tar, f"a.b/{number}.json", json.dumps({"kind": said, "label": 9}).encode())
    table = _described("train", ["train-0.tar"], [3]) | {"alt_label": "kind"}
    (folder / "_info.json").write_text(json.dumps({"splits": {"train": table}}))
    split = wds(str(folder)).splits["train"]
    assert split.targets.tolist() == [4, 0, 2]
    assert split.name(2) == f"{folder}/train-0.tar/a.b/2.JPEG"
    assert split.image(2).size == (12, 10)


def test_a_description_without_train_is_refused(shards: Shards) -> None:
    with pytest.raises(DataError, match=r"no split named train; there are: none\. Call the one"):
        wds(str(shards(splits={})))
    with pytest.raises(DataError, match="no split named train; there are: 'training', 'test'"):
        wds(str(shards(splits={"training": {}, "test": _described("test", [], [])})))


@pytest.mark.parametrize("content", [None, "{", "[]", '{"splits": 3}'])
def test_a_folder_without_a_description_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "_info.json").write_text(content)
    with pytest.raises(DataError, match=r"_info.json cannot be read: .* Expected shards and") as no:
        wds(str(tmp_path))
    assert "object has no attribute" not in str(no.value)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({}, "cannot be read: splits.train has no filenames. Expected shards and what they hold"),
        ({"filenames": ["a.tar"]}, "cannot be read: splits.train has no shard_lengths"),
        (
            {"filenames": 3, "shard_lengths": [1]},
            "cannot be read: splits.train.filenames is 3; expected array",
        ),
        ("x", "cannot be read: splits.train is 'x'; expected object"),
        ({"filenames": ["a.tar"], "shard_lengths": []}, "lists 1 shards of train, 0 lengths"),
        (
            {"filenames": ["a.tar"], "shard_lengths": [2], "num_samples": 3},
            "lists 1 shards of train, 1 lengths, 2 images together, and 3 in num_samples",
        ),
    ],
)
def test_a_split_that_is_described_wrongly_is_refused(
    tmp_path: Path, table: Any, reason: str
) -> None:
    (tmp_path / "_info.json").write_text(json.dumps({"splits": {"train": table}}))
    with pytest.raises(DataError, match=rf"_info\.json {reason}"):
        wds(str(tmp_path))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("a.tar", "a.tar"), "lists 'a.tar' 2 times"),
        (("a.tar", "./a.tar"), "lists 'a.tar' 2 times"),
        (("a.tar", "../a.tar"), "lists '../a.tar'; expected shards that lie beside it"),
        (("a.tar", "/a.tar"), "lists '/a.tar'; expected shards that lie beside it"),
    ],
)
def test_shards_lie_beside_their_description_once(
    names: tuple[str, str], reason: str, tmp_path: Path
) -> None:
    train, test = ({"filenames": [name], "shard_lengths": [1]} for name in names)
    other = {"lengths": "of a split that nobody reads"}
    splits = {"train": train, "validation": test, "other": other}
    (tmp_path / "_info.json").write_text(json.dumps({"splits": splits}))
    with pytest.raises(DataError, match=reason):
        wds(str(tmp_path))


def test_a_split_may_have_two_names(shards: Shards) -> None:
    file = shards() / "_info.json"
    info = json.loads(file.read_text())
    info["splits"]["val"] = info["splits"]["validation"] = info["splits"].pop("test")
    file.write_text(json.dumps(info))
    found = {name: len(split) for name, split in wds(str(file.parent)).splits.items()}
    assert found == {"train": 5, "validation": 2}


def test_a_shard_that_names_a_command_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    table = _described("train", [f"pipe:touch {tmp_path}/ran"], [1])
    (tmp_path / "_info.json").write_text(json.dumps({"splits": {"train": table}}))
    with pytest.raises(DataError, match=r"shard .*pipe:touch .* cannot be read: .*No such file"):
        wds(str(tmp_path))
    assert not (tmp_path / "ran").exists()
