"""A report takes the place of an older one, and of nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from edgekd.errors import UsageError
from edgekd.report import check_place, write

NAMES = ("report.html", "report.md", "report.json")
OWN = {
    "nothing but words": "my own page\n",
    "empty": "",
    "another page": '<meta name="generator" content="Hugo 0.1"><title>Mine</title>',
    "another summary": "## What I found\n\nedgekd report\n",
    "another table": '{"schema_version": 1, "title": "Mine"}',
    "a record": '{"schema_version": 1, "edgekd_version": "0.1.0", "timestamp": "", "title": "x"}',
}


@pytest.fixture
def folder(run_folder: Path, tmp_path: Path) -> Path:
    """A run that was not reported yet."""
    return shutil.copytree(run_folder, tmp_path / "run")


@pytest.fixture(params=["beside the run", "elsewhere"])
def out(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Path:
    """Where its report goes."""
    place = folder if request.param == "beside the run" else tmp_path / "out"
    place.mkdir(exist_ok=True)
    return place


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", OWN.values(), ids=OWN)
def test_what_is_no_report_is_kept(folder: Path, out: Path, name: str, text: str) -> None:
    (out / name).write_text(text, "utf-8")
    before = sorted(out.iterdir())
    with pytest.raises(UsageError, match=rf"{name} is no report of edgekd's.* Move it away, or ch"):
        write(folder, out)
    assert (out / name).read_text("utf-8") == text
    assert sorted(out.iterdir()) == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("put", "found"),
    [
        (Path.mkdir, "is a folder"),
        (os.mkfifo, "is a device or a pipe"),
        (lambda place: place.symlink_to(place), "cannot be read"),
    ],
)
def test_nothing_is_written_where_one_cannot_be(
    folder: Path, out: Path, name: str, put: Callable[[Path], None], found: str
) -> None:
    put(out / name)
    before = sorted(out.iterdir())
    with pytest.raises(UsageError, match=rf"{name} {found}.* Expected nothing there, or an older"):
        write(folder, out)
    assert sorted(out.iterdir()) == before


@pytest.mark.parametrize("left", [*NAMES, "all"])
def test_a_report_is_replaced_whatever_is_left_of_it(folder: Path, left: str) -> None:
    paths = write(folder)
    for path in paths.values():
        if left not in ("all", path.name):
            path.unlink()
    (folder / "profile.json").unlink()
    write(folder)
    assert json.loads(paths["json"].read_text("utf-8"))["records"] == []


@pytest.mark.parametrize("killed_after", ["html", "markdown", "json"])
def test_a_report_of_another_title_is_replaced(
    run_maker: Callable[..., Path], tmp_path: Path, killed_after: str
) -> None:
    """Even where the last one was written in part, when its writer was killed."""
    other = '<b>&amp; *other* "net" \\'
    old = write(run_maker(tmp_path / "old"), tmp_path / "kept")
    new = write(run_maker(tmp_path / "new", name=other), tmp_path / "next")
    for kind, path in new.items():
        shutil.copy(path, old[kind])
        if kind == killed_after:
            break
    last = write(run_maker(tmp_path / "last", name="a third"), tmp_path / "kept")
    assert last["markdown"].read_text("utf-8").startswith("## a third")


def test_a_page_that_was_linked_to_stays_where_it_is(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("my own page", "utf-8")
    (folder / "report.html").symlink_to(tmp_path / "page.html")
    with pytest.raises(UsageError, match="is no report"):
        write(folder)
    assert (folder / "report.html").is_symlink()


@pytest.mark.parametrize(
    ("name", "text", "refused"),
    [
        ("report.md", "# my notes\n", True),
        ("report.md", "## of an earlier run, whose page was deleted\n", False),
        ("report.html", "my page", True),
        ("report.json", "{}", True),
    ],
)
def test_a_place_is_looked_at_before_the_work(
    name: str, text: str, refused: bool, tmp_path: Path
) -> None:
    check_place(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match="no report of edgekd") if refused else nullcontext():
        check_place(tmp_path)
