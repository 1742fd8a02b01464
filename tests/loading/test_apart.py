"""What is made lies outside the images."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.errors import UsageError
from edgekd.loading import check_apart


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    return tmp_path / "images"


@pytest.mark.parametrize("out", [".", "made", "cat", "made/deeper", "cat/../made", "../link/made"])
@pytest.mark.parametrize("named", ["{}", "./images"])
def test_a_folder_among_the_classes_is_refused(
    out: str, named: str, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images.parent)
    Path("link").symlink_to("images")
    with pytest.raises(
        UsageError, match=r"lies among the images of .* Choose another --output, beside"
    ):
        check_apart(images / out, named.format(images))


@pytest.mark.parametrize("out", ["made", "train/made", "test"])
def test_where_images_are_divided_only_the_parts_are_looked_through(out: str, images: Path) -> None:
    for part in ("train", "test"):
        (images / part / "cat").mkdir(parents=True)
    if out == "made":
        check_apart(images / out, str(images))
        return
    with pytest.raises(UsageError, match="lies among the images of"):
        check_apart(images / out, str(images))


@pytest.mark.parametrize(
    "text", ["digits", "wds/images", "{}.tar", "./nothing", "a\0b", "x" * 9999]
)
def test_what_is_no_folder_is_in_nobody_s_way(text: str, images: Path) -> None:
    check_apart(images.parent / "images-made", text.format(images))
    check_apart(images / "made", text.format(images))


def test_a_hidden_folder_is_no_class(images: Path) -> None:
    check_apart(images / ".runs" / "one", str(images))
