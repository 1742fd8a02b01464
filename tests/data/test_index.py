"""A million images are told apart in little memory, in the order that timm would give them."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from timm.utils.misc import natural_key

from edgekd.data._places import Names, collect, in_order, members, natural

WORDS = st.text("aB01/. ²é", min_size=1, max_size=8)


@given(st.lists(WORDS, max_size=30))
@settings(max_examples=60, deadline=None)
def test_names_come_back_as_they_were(texts: list[str]) -> None:
    names = Names(texts)
    assert list(names) == texts
    assert len(names) == len(texts)
    rows = np.arange(len(texts))[::-1]
    assert list(names.at(rows)) == texts[::-1]


def test_a_name_that_is_no_text_comes_back() -> None:
    (name,) = Names(["caf\udce9.png"])  # as Python reads a Latin-1 name from a disk
    assert name == "caf\udce9.png"


@given(st.lists(st.tuples(st.text("aB01 _", max_size=4), st.text("aB01_.", max_size=4))))
@example([("a b", "1"), ("a", "2"), ("01", "b"), ("1", "a"), ("1", "c"), ("A", "1"), ("a", "0")])
@settings(max_examples=200, deadline=None)
def test_folder_by_folder_is_the_natural_order_of_whole_names(pairs: list[tuple[str, str]]) -> None:
    texts = [f"{folder}/{own}" for folder, own in pairs]
    ordered = [texts[row] for row in in_order(Names(texts))]
    assert ordered == sorted(texts, key=natural)
    assert ordered == sorted(texts, key=natural_key)


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,000 files of 10 bytes, in ten folders."""
    path = tmp_path_factory.mktemp("many") / "many.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(10_000):
            member = tarfile.TarInfo(f"class{number % 10}/image_{number:08}.JPEG")
            member.size = 10
            tar.addfile(member, io.BytesIO(f"{number:010}".encode()))
    return path


def test_the_index_of_a_tar_keeps_little(tar: Path) -> None:
    tracemalloc.start()
    places, names = collect([tar], ((0, member) for member in members(tar)))
    order = in_order(names)
    places, names = places.at(order), names.at(order)
    seen = tracemalloc.take_snapshot()
    tracemalloc.stop()
    own = [tracemalloc.Filter(True, file) for file in ("*/_places.py", "*/tarfile.py")]
    kept = sum(one.size for one in seen.filter_traces(own).statistics("filename"))
    assert names[1000] == "class1/image_00000001.JPEG"
    assert places.read(1000) == b"0000000001"
    assert kept / 10_000 < 120  # bytes an image: its name, and four numbers


def test_an_image_that_is_no_longer_all_there_is_told(tar: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.tar"
    short.write_bytes(tar.read_bytes())
    places, _ = collect([short], ((0, member) for member in members(short)))
    short.write_bytes(tar.read_bytes()[: 1024 * 10 + 515])
    assert places.read(9) == b"0000000009"
    with pytest.raises(OSError, match=r"short\.tar ends within it"):
        places.read(10)
