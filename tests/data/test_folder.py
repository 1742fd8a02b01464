"""Folders and tars of images: the same images, the right classes, no code from beside them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekd.data import Source, Split
from edgekd.data.folder import folder
from edgekd.errors import DataError

Classes = Callable[[Path, dict[str, int]], Path]
Tarred = Callable[[Path, str], Path]
Picture = Callable[[int], Image.Image]


def pixels(split: Split) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(split.image(i)) for i in range(len(split))]


def named(source: Source, split: str = "train") -> list[str]:
    """Class name of each image, in order."""
    return [source.labels[target] for target in source.splits[split].targets]


def test_a_folder_of_class_folders_is_one_split(
    tmp_path: Path, classes: Classes, picture: Picture
) -> None:
    source = folder(str(classes(tmp_path / "pets", {"dog": 2, "cat": 3})))
    assert source.labels == ("cat", "dog")
    assert list(source.splits) == ["train"]
    assert named(source) == ["cat"] * 3 + ["dog"] * 2
    assert source.augment == "shift+flip"
    assert not source.notes
    split = source.splits["train"]
    assert split.name(3) == f"{tmp_path}/pets/dog/0.png"
    assert (np.asarray(split.image(3)) == np.asarray(picture(100))).all()


def test_numbered_classes_are_in_the_order_of_the_numbers(tmp_path: Path, classes: Classes) -> None:
    source = folder(str(classes(tmp_path / "n", {"10": 1, "9": 1, "1": 1})))
    assert source.labels == ("1", "9", "10")


def test_train_validation_and_test_are_found(tmp_path: Path, classes: Classes) -> None:
    for place, part in enumerate(["train", "val", "test"]):
        classes(tmp_path / part, {"a": place + 1, "b": place + 1})
    source = folder(str(tmp_path))
    assert {name: len(split) for name, split in source.splits.items()} == {
        "train": 2,
        "validation": 4,
        "test": 6,
    }
    assert not source.notes


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_without_test_the_validation_images_are_kept_for_the_end(
    tmp_path: Path, classes: Classes, name: str
) -> None:
    classes(tmp_path / "train", {"a": 1, "b": 1})
    classes(tmp_path / name, {"a": 2, "b": 2})
    source = folder(str(tmp_path))
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 2, "test": 4}
    assert source.notes == ("there is no test/: the val/ images are kept for the final figure",)


def test_splits_may_be_tars(tmp_path: Path, classes: Classes, tarred: Tarred) -> None:
    for place, part in enumerate(["train", "test"]):
        tarred(classes(tmp_path / "unpacked" / part, {"a": place + 1, "b": 1}), ".")
    for tar in (tmp_path / "unpacked").glob("*.tar"):
        tar.rename(tmp_path / tar.name)
    source = folder(str(tmp_path))
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 2, "test": 3}


def test_a_split_with_fewer_classes_is_numbered_as_the_training_is(
    tmp_path: Path, classes: Classes
) -> None:
    classes(tmp_path / "train", {"a": 1, "b": 1, "c": 1, "d": 1})
    classes(tmp_path / "test", {"d": 2, "b": 1})
    source = folder(str(tmp_path))
    assert named(source, "test") == ["b", "d", "d"]


def test_a_class_the_training_does_not_have_is_refused(tmp_path: Path, classes: Classes) -> None:
    classes(tmp_path / "train", {"a": 1, "b": 1})
    classes(tmp_path / "test", {"a": 1, "z": 1})
    with pytest.raises(DataError, match=r"test has classes the training .* not have: z\. Expected"):
        folder(str(tmp_path))


@pytest.mark.parametrize("junk", [None, "Thumbs.db", ".DS_Store", "notes.txt"])
def test_a_class_folder_without_images_is_refused(
    tmp_path: Path, classes: Classes, junk: str | None
) -> None:
    classes(tmp_path / "pets", {"cat": 2, "dog": 2})
    (tmp_path / "pets" / "emu").mkdir()
    if junk:
        (tmp_path / "pets" / "emu" / junk).touch()
    with pytest.raises(DataError, match=r"the class folder .*emu has no images"):
        folder(str(tmp_path / "pets"))


def test_hidden_folders_and_loose_notes_are_no_classes(tmp_path: Path, classes: Classes) -> None:
    classes(tmp_path, {"cat": 2, "dog": 2})
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README.md").touch()
    assert folder(str(tmp_path)).labels == ("cat", "dog")


@pytest.mark.parametrize("extension", [".PNG", ".jpg", ".bmp", ".webp", ".tif", ".gif", ".ppm"])
def test_usual_formats_are_read(tmp_path: Path, picture: Picture, extension: str) -> None:
    (tmp_path / "a").mkdir()
    picture(0).save(tmp_path / "a" / f"0{extension}")
    split = folder(str(tmp_path)).splits["train"]
    assert split.image(0).size == (12, 10)


def test_a_tar_is_its_folder_pixel_for_pixel(
    tmp_path: Path, classes: Classes, tarred: Tarred
) -> None:
    unpacked = classes(tmp_path / "pets", {"cat": 12, "dog": 3})
    plain = folder(str(unpacked))
    for inner in (".", "pets"):
        packed = folder(str(tarred(unpacked, inner)))
        assert packed.labels == plain.labels
        a, b = plain.splits["train"], packed.splits["train"]
        assert (a.targets == b.targets).all()
        assert all((x == y).all() for x, y in zip(pixels(a), pixels(b), strict=True))
        assert b.name(0) == f"{tmp_path}/pets.tar/{'./' if inner == '.' else 'pets/'}cat/0.png"


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickled_index_beside_a_tar_is_never_read(
    tmp_path: Path, classes: Classes, tarred: Tarred
) -> None:
    tar = tarred(classes(tmp_path / "x", {"cat": 2, "dog": 2}), ".")
    poison, canary = tmp_path / "_x_tarinfos.pickle", tmp_path / "ran"  # as timm looks for one
    poison.write_bytes(pickle.dumps(Canary(canary)))
    assert len(folder(str(tar)).splits["train"]) == 4
    assert not canary.exists()
    pickle.loads(poison.read_bytes())  # was not replaced either, and would have run
    assert canary.exists()


def test_timm_is_not_asked_where_the_images_are() -> None:
    code = "import sys, edgekd.data.folder, edgekd.data.wds; print('timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("inner", ["", "{}/", "./", "./{}/"])
def test_a_tar_of_tars_may_have_no_folders_in_it(
    tmp_path: Path, classes: Classes, inner: str
) -> None:
    unpacked = classes(tmp_path / "pets", {"cat": 3, "dog": 2})
    with tarfile.open(tmp_path / "imagenet.tar", "w") as outer:
        for name in ("dog", "cat"):
            with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
                for file in sorted((unpacked / name).iterdir(), reverse=True):
                    tar.add(file, arcname=f"{inner.format(name)}{file.name}")
            outer.add(tmp_path / f"{name}.tar", arcname=f"{name}.tar")
    a, b = (folder(str(path)) for path in (unpacked, tmp_path / "imagenet.tar"))
    assert a.labels == b.labels
    one, other = a.splits["train"], b.splits["train"]
    assert one.targets.tolist() == other.targets.tolist()
    assert other.name(0) == f"{tmp_path}/imagenet.tar/cat/0.png"
    assert all((x == y).all() for x, y in zip(pixels(one), pixels(other), strict=True))


def test_a_tar_that_has_a_file_twice_is_refused(
    tmp_path: Path, classes: Classes, tarred: Tarred
) -> None:
    tar = tarred(classes(tmp_path / "x", {"cat": 3, "dog": 3}), ".")
    with tarfile.open(tar) as opened:
        (name,) = [one.name for one in opened if one.name.endswith("cat/1.png")]
    with tarfile.open(tar, "a") as added:
        added.add(tmp_path / "x" / "dog" / "2.png", arcname=name)
    with pytest.raises(DataError, match=r"x\.tar .*two files of one name"):
        folder(str(tar))


def test_tars_in_a_tar_may_have_files_of_one_name(
    tmp_path: Path, classes: Classes, tarred: Tarred
) -> None:
    root = tmp_path / "BZhang"  # which is no bzip2
    root.mkdir()
    for part in "ab":
        tar = tarred(classes(tmp_path / part, {"cat": 3, "dog": 3}), ".")
        tar.replace(root / f"{part}.tar")
    assert len(folder(str(tarred(root, "BZhang"))).splits["train"]) == 12


def test_a_broken_header_in_the_middle_is_not_the_end(
    tmp_path: Path, classes: Classes, tarred: Tarred
) -> None:
    tar = tarred(classes(tmp_path / "x", {"cat": 3, "dog": 3}), ".")
    content = bytearray(tar.read_bytes())
    content[content.index(b"dog/1.png")] ^= 1
    tar.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.tar cannot be read: (bad checksum|invalid h)"):
        folder(str(tar))


def test_a_tar_that_was_cut_between_two_files_is_not_whole(
    tmp_path: Path, classes: Classes, tarred: Tarred
) -> None:
    tar = tarred(classes(tmp_path / "x", {"cat": 3, "dog": 3}), ".")
    whole = tar.read_bytes()
    with tarfile.open(tar) as opened:
        ends = [one.offset for one in opened.getmembers()][2:]
    for end in ends:
        tar.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"x\.tar cannot be read: it is cut off .* copy it ag"):
            folder(str(tar))
        with tarfile.open(tmp_path / "outer.tar", "w") as outer:
            outer.add(tar, arcname="./pets.tar")
        with pytest.raises(DataError, match=r"outer\.tar cannot .*: \./pets\.tar in it: it is cut"):
            folder(str(tmp_path / "outer.tar"))


def test_a_link_in_a_tar_is_not_dropped_in_silence(
    tmp_path: Path, classes: Classes, tarred: Tarred
) -> None:
    unpacked = classes(tmp_path / "x", {"cat": 2, "dog": 2})
    (unpacked / "dog" / "2.png").hardlink_to(unpacked / "cat" / "0.png")
    assert len(folder(str(unpacked)).splits["train"]) == 5
    with pytest.raises(DataError, match=r"2\.png is a link to .*cat/0\.png; pack the files them"):
        folder(str(tarred(unpacked, ".")))


def test_what_macos_keeps_beside_images_is_none_of_them(
    tmp_path: Path, classes: Classes, tarred: Tarred
) -> None:
    unpacked = classes(tmp_path / "x", {"cat": 2, "dog": 2})
    (unpacked / "dog" / "._0.png").write_bytes(b"no image")
    for place in (unpacked, tarred(unpacked, ".")):
        assert len(folder(str(place)).splits["train"]) == 4


def test_a_tar_of_tars_is_one_class_a_tar(tmp_path: Path, classes: Classes, tarred: Tarred) -> None:
    unpacked = classes(tmp_path / "pets", {"cat": 3, "dog": 2})
    packed = tmp_path / "packed"
    packed.mkdir()
    for name in ("cat", "dog"):
        tarred(unpacked / name, name).rename(packed / f"{name}.tar")
    source = folder(str(tarred(packed, ".")))
    a, b = folder(str(unpacked)).splits["train"], source.splits["train"]
    assert source.labels == ("cat", "dog")
    assert all((x == y).all() for x, y in zip(pixels(a), pixels(b), strict=True))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"no tar at all" * 100, "invalid header"),
        (None, "unexpected end of data"),
    ],
)
def test_a_damaged_tar_is_refused(
    tmp_path: Path, classes: Classes, tarred: Tarred, content: bytes | None, reason: str
) -> None:
    tar = tarred(classes(tmp_path / "x", {"cat": 2, "dog": 2}), ".")
    tar.write_bytes(tar.read_bytes()[:5000] if content is None else content)
    with pytest.raises(DataError, match=rf"x.tar cannot be read: {reason}. Expected one subfolder"):
        folder(str(tar))


@pytest.mark.parametrize(("module", "program"), [(gzip, "gzip"), (bz2, "bzip2"), (lzma, "xz")])
def test_a_compressed_tar_is_called_so(
    module: Any, program: str, tmp_path: Path, classes: Classes, tarred: Tarred
) -> None:
    tar = tarred(classes(tmp_path / "x", {"cat": 2, "dog": 2}), ".")
    tar.write_bytes(module.compress(tar.read_bytes()))
    with pytest.raises(DataError, match=rf"x\.tar .*it is compressed.* plain tar \({program} -d\)"):
        folder(str(tar))


def test_a_folder_of_shards_is_another_data_set(tmp_path: Path, classes: Classes) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "_info.json").write_text("{}")
    with pytest.raises(DataError, match=r"--data wds/.*shards$"):
        folder(str(tmp_path / "shards"))
    root = classes(tmp_path / "x", {"cat": 2, "dog": 2})
    (root / "_info.json").write_text("{}")
    assert len(folder(str(root)).splits["train"]) == 4


def test_a_tar_without_images_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w"):
        pass
    with pytest.raises(DataError, match=r"x.tar cannot be read: no images"):
        folder(str(tmp_path / "x.tar"))


def test_a_place_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder or tar .*absent"):
        folder(str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"cannot be read: no images. Expected one subf"):
        folder(str(tmp_path))
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"a.png cannot be read: it is neither a folder nor"):
        folder(str(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "Test"), ("train", "TEST"), ("Training", "test")]
)
@pytest.mark.parametrize("packed", [False, True])
def test_splits_are_found_whatever_their_case(
    train: str, test: str, packed: bool, tmp_path: Path, classes: Classes, tarred: Tarred
) -> None:
    for place, part in enumerate((train, test)):
        folder_ = classes(tmp_path / part, {"a": place + 1, "b": place + 1})
        if packed:
            tarred(folder_, f"{part}.TAR" if place else f"{part}.tar")
            shutil.rmtree(folder_)
    found = folder(str(tmp_path)).splits
    assert {name: len(split) for name, split in found.items()} == {"train": 2, "test": 4}


def test_images_that_are_not_read_are_told(
    tmp_path: Path, classes: Classes, tarred: Tarred
) -> None:
    data = classes(tmp_path / "pets", {"cat": 2, "dog": 2})
    for name in ("cat/7.HEIC", "dog/7.heic", "dog/8.avif", "dog/notes.txt", "dog/._8.avif"):
        (data / name).touch()
    for source in (folder(str(data)), folder(str(tarred(data, "pets.tar")))):
        assert len(source.splits["train"]) == 4
        assert source.notes == (
            "3 images are left out: .avif, .heic files are not read. Convert to PNG or JPEG",
        )
    for image in (data / "cat").glob("*.png"):
        image.unlink()
    with pytest.raises(DataError, match=r"cat has no images\. 3 images are left out: \.avif"):
        folder(str(data))
    shutil.rmtree(data / "dog")
    with pytest.raises(
        DataError, match=r"no images\. one image is left out: \.heic files are not read"
    ):
        folder(str(data))
