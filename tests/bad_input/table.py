"""What every case of bad input has, and what must hold of each: the tables are files beside this.

A table is a module with ``CASES``: a name, how the case is laid out and which command meets it, the
exit code, and words of the message. It may have ``LEFT``, what a case may leave in its output
folder, and ``TOUCHED``, patterns of what a case may change elsewhere; without, it is nothing.
"""

from __future__ import annotations

import fnmatch
import math
import os
import resource
import stat
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from edgekd.models import zoo
from tests.cli.conftest import Answer

SCREEN_LINES, SCREEN_COLUMNS = 12, 80
DISTILL = ["--size", "8", "--limit", "200", "--epochs", "1", "--precision", "fp32"]
MOST_BYTES = 4 << 30
"""Address space that a case may take beyond what the process has: endless input is found out."""


@dataclass(frozen=True)
class Place:
    """Where a case lays out its bad input, and what is good."""

    tmp: Path
    """All of it; the home folder, the working folder and temporary files are in here as well."""
    teacher: Path

    @property
    def out(self) -> Path:
        return self.tmp / "out"

    @property
    def home(self) -> Path:
        """``HOME``, with ``.config`` and ``.cache``."""
        return self.tmp / "home"

    def distill(self, *more: str | Path, teacher: str | Path = "") -> list[str | Path]:
        """A good command, made bad by ``more``."""
        given = ["--teacher", str(teacher or self.teacher), "--student", "resnet8"]
        return ["distill", *given, *DISTILL, "-o", self.out, *more]

    def recipe(self, text: str) -> Path:
        (self.tmp / "mine.toml").write_text(text)
        return self.tmp / "mine.toml"

    def pictures(self, **counts: int) -> Path:
        """A folder of noise, so many images a class."""
        draw = np.random.default_rng(0)
        for label, count in counts.items():
            (self.tmp / "pictures" / label).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                file = self.tmp / "pictures" / label / f"{number}.png"
                Image.fromarray(pixels).save(file)
        return self.tmp / "pictures"

    def teach(self, data: Path) -> list[str | Path]:
        return ["teach", "--teacher", "resnet8", "--data", data, *DISTILL, "-o", self.out]

    def weights(self, classes: int) -> Path:
        torch.manual_seed(0)
        path = self.tmp / "weights.safetensors"
        save_file(zoo.create("resnet14", classes).state_dict(), path)
        return path


Case = Callable[[Place], list[str | Path]]
Cases = dict[str, tuple[Case, int, list[str]]]


def wrapped(text: str) -> int:
    """Lines a terminal needs for it."""
    return sum(max(1, math.ceil(len(line) / SCREEN_COLUMNS)) for line in text.splitlines())


def unprintable(text: str) -> list[str]:
    """What a terminal would obey, or not show: control characters, but for the line's end."""
    return [repr(c) for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs")]


def assert_clear(answer: Answer, code: int, words: Sequence[str]) -> None:
    """One screen on standard error that says what is wrong, and the right exit code."""
    said = " ".join(answer.err.split())
    assert answer.code == code, answer
    assert "Traceback" not in answer.err
    assert answer.out == ""
    for word in words:
        assert word in said
    assert wrapped(answer.err) <= SCREEN_LINES
    assert not unprintable(answer.err)


def left(folder: Path) -> list[str]:
    """All that is below a folder, whatever it is, by its path in there."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


Listing = dict[str, tuple[int, int, int]]


def listing(place: Place) -> Listing:
    """What lies in a place, but for the output folder, and its state; folders have but their mode.

    A draft that comes and goes changes when its folder was written, and nothing else.
    """
    found: Listing = {}
    for root in (place.tmp, place.teacher):
        for path in sorted(_below(root, place.out)):
            seen = path.lstat()
            is_folder = stat.S_ISDIR(seen.st_mode)
            if not (is_folder and path == place.out):
                state = (0, 0) if is_folder else (seen.st_size, seen.st_mtime_ns)
                found[str(path)] = (seen.st_mode, *state)
    return found


def _below(root: Path, out: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        if Path(folder) == out:
            folders.clear()
            continue
        yield from (Path(folder, name) for name in (*folders, *files))


def changed(before: Listing, after: Listing, allowed: Sequence[str] = ()) -> list[str]:
    """Paths that came, went or were written, but for the patterns that are allowed."""
    return [
        path
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
        and not any(fnmatch.fnmatch(path, f"*/{pattern}") for pattern in allowed)
    ]


def at_home(place: Place, patch: pytest.MonkeyPatch) -> None:
    """Have everything that a command may write by itself written in the place."""
    here, temporary = place.tmp / "here", place.tmp / "temporary"
    for folder in (place.home / ".config", place.home / ".cache", here, temporary):
        folder.mkdir(parents=True)
    patch.setenv("HOME", str(place.home))
    patch.setenv("XDG_CONFIG_HOME", str(place.home / ".config"))
    patch.setenv("XDG_CACHE_HOME", str(place.home / ".cache"))
    patch.setenv("TMPDIR", str(temporary))
    patch.setattr(tempfile, "tempdir", str(temporary))
    patch.chdir(here)


@contextmanager
def bounded_memory() -> Iterator[None]:
    """What takes memory without end gets a MemoryError, before the machine is out of it."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def merged(tables: Mapping[str, object], name: str) -> dict[str, object]:
    """An attribute of all tables together; no two of them may call a case alike."""
    found: dict[str, object] = {}
    for module in tables.values():
        own: dict[str, object] = getattr(module, name, {})
        assert not found.keys() & own.keys(), found.keys() & own.keys()
        found |= own
    return found
