"""Places that are full, for reading only, or gone from one moment to the next.

Full disks for distill, export and report are among the bad input as well, at sizes and with words
that are looked at one by one; a device's own disk is in ``test_link.py``.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.bench import differing, half_made, untidy
from tests.faults.commands import COMMANDS, OTHERS, home_of, homes, laid_out, undisturbed
from tests.faults.doomed import Ended, Moment, Workshop
from tests.faults.endings import ending

ALL = COMMANDS | OTHERS
WRITING = sorted({*ALL} - {"verify", "device add", "report"})
"""Those that write into a folder that is named."""
HOMES = {"cache": "XDG_CACHE_HOME", "config": "XDG_CONFIG_HOME", "tmp": "TMPDIR"}


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A small disk on a folder; it takes root to have one."""
    words = ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def assert_a_sentence(ended: Ended, *codes: int) -> None:
    assert not ended.late
    assert ended.code in codes, ended
    assert "Traceback" not in ended.err, ended.err
    assert ended.code == 0 or ended.err.strip()


@pytest.mark.parametrize("verb", [*WRITING, "report"])
def test_a_folder_for_reading_only(verb: str, shop: Workshop, source: Path, tmp_path: Path) -> None:
    """It is refused before anything is done."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted(folder):
        for name in ALL[verb].needs:
            subprocess.run(["cp", "-r", source / name, folder / name], check=True)
        remount(folder, "ro")
        ended = shop.run(ALL[verb].words, folder, env=homes(folder))
    assert_a_sentence(ended, 2)
    assert "Read-only file system" in ended.err
    assert "cannot write" in ended.err
    assert "--output" in ended.err
    assert not [moment for moment in ended.moments if moment.startswith("starts")]


def test_settings_for_reading_only(shop: Workshop, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    env = homes(folder)
    (home_of(folder) / "config").mkdir()
    with mounted(home_of(folder) / "config", "-o", "ro"):
        words = [*ALL["device add"].words, "--offline", "--profile", "none"]
        ended = shop.run(words, folder, env=env)
    assert_a_sentence(ended, 2)
    assert "Read-only file system" in ended.err


@pytest.mark.slow
@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("verb", ALL)
def test_private_places_for_reading_only(
    verb: str, home: str, shop: Workshop, source: Path, tmp_path: Path
) -> None:
    """It goes on without its cache, or says what it cannot write; then the same command ends."""
    folder = laid_out(ALL[verb], source, tmp_path / "cut")
    env = homes(folder)
    place = home_of(folder) / home
    place.mkdir(exist_ok=True)
    with mounted(place, "-o", "ro"):
        ended = shop.run(ALL[verb].words, folder, env=env, first=ALL[verb].first)
    assert_a_sentence(ended, 0, 1, 2)
    assert half_made(folder) == []
    goes_on(verb, shop, source, tmp_path, ended)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("verb", ALL)
def test_a_small_disk(verb: str, shop: Workshop, source: Path, tmp_path: Path) -> None:
    """Of any size below the one it takes: folder, cache and temporary files lie on it."""
    draw = random.Random(verb)
    whole = undisturbed(shop, ALL[verb], source, tmp_path / "whole")
    assert whole.code in ALL[verb].codes
    taken = sum(f.stat().st_blocks * 512 for f in tmp_path.rglob("*") if f.is_file())
    for attempt in range(8):
        disk = tmp_path / f"disk-{attempt}"
        disk.mkdir()
        with mounted(disk, "-o", "size=1g"):
            folder = laid_out(ALL[verb], source, disk / "cut")
            heard = tmp_path / f"heard-{attempt}"  # on another disk, or its sentence had no room
            heard.mkdir()
            (disk / "cut.heard").symlink_to(heard)
            env = homes(folder)
            used = sum(f.stat().st_blocks * 512 for f in disk.rglob("*") if f.is_file())
            remount(disk, f"size={(used + draw.randrange(taken)) // 1024 + 8}k")
            ended = shop.run(ALL[verb].words, folder, env=env, first=ALL[verb].first)
            assert_a_sentence(ended, 0, 1, 2)
            assert half_made(folder) == []
            remount(disk, "size=1g")
            ended = shop.run(ALL[verb].words, folder, env=env, first=ALL[verb].first)
            assert ended.code in ALL[verb].codes, ended
            assert differing(folder, ending(tmp_path / "whole")) + untidy(folder) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("verb", WRITING)
def test_a_folder_that_vanishes(verb: str, shop: Workshop, source: Path, tmp_path: Path) -> None:
    """Somebody deletes the output while it is made: a sentence, and the same command ends."""
    whole = undisturbed(shop, ALL[verb], source, tmp_path / "whole")
    words, first = ALL[verb].words, ALL[verb].first
    out = words[words.index("-o") + 1].partition("/")[0]
    moments = [n for n, what in enumerate(whole.moments, 1) if what.startswith(("re", "st"))]
    for turn, count in enumerate(random.Random(verb).sample(moments, min(6, len(moments)))):
        place = tmp_path / str(turn)
        folder = laid_out(ALL[verb], source, place / "cut")
        ended = shop.run(words, folder, Moment(".*", count, gone=out), homes(folder), first=first)
        assert_a_sentence(ended, 0, 1, 2)
        ended = shop.run(words, folder, env=homes(folder), first=first)
        assert ended.code == 0, ended
        assert differing(folder, ending(tmp_path / "whole")) + untidy(folder) == []


def goes_on(verb: str, shop: Workshop, source: Path, place: Path, ended: Ended) -> None:
    """The same command, with nothing in its way."""
    if ended.code != 0:
        words, first = ALL[verb].words, ALL[verb].first
        ended = shop.run(words, place / "cut", env=homes(place / "cut"), first=first)
    assert ended.code in ALL[verb].codes, ended
    undisturbed(shop, ALL[verb], source, place / "whole")
    assert differing(place / "cut", ending(place / "whole")) + untidy(place / "cut") == []
