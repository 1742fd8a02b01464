"""Memo: where a teacher's answers are kept, for every later training that shows it the same views.

One folder a teacher, one file of rows a kind of answer. Any number of processes read and write them
at once, without waiting for one another; the folders of teachers that nobody asks make room, the
one not used longest first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekd.data import Indices
from edgekd.files import cache_folder
from edgekd.trainer.room import Hold, given, one_at_a_time, sweep
from edgekd.trainer.rows import WORD, Rows, words_of

VERSION = 1
"""Of how answers are asked for and kept; those of another one are not looked at."""
CLEARLY = 1.5
"""For so many times the rows, those that are there are given up."""
ALONE = 16
"""A batch of fewer images shares its answers only with batches of as many."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Memo:
    """The answers of all teachers; anyone may delete them at any time."""

    folder: Path
    key: Callable[[], str]
    """Makes a hash of all that decides the answers: the teacher, the images and their views, how
    they are prepared, the precision and the machine. Asked for only where answers are kept."""
    room: int
    """Bytes that all files together may take."""

    @classmethod
    def of_user(cls, key: Callable[[], str], gigabytes: float) -> Memo | None:
        """In the user's own cache; ``None`` where no room is given."""
        room = int(gigabytes * 1e9)
        return cls(cache_folder("answers"), key, room) if room else None

    def open(
        self,
        tables: Mapping[str, Tensor],
        narrow: torch.dtype | None,
        keys: int,
        batch: int,
        say: Say = lambda text: None,
        *,
        make: bool = True,
    ) -> Store | str:
        """Open this teacher's folder, which makes room and is made if need be.

        Args:
            tables: answers to one batch by kind, (B, width) float32, to see how they are best kept.
            narrow: what the network computes in, where that is less than float32.
            keys: how many views of images there are.
            batch: how many images are shown at once.
            say: told, once, that no more can be written.
            make: also what is not there yet.

        Returns:
            What is open, or why nothing can be kept.
        """
        place = self.folder / f"{self.key()[:32]}"
        few = f"-batch{batch}" if batch < ALONE else ""
        kinds = {kind: _Kind.of(table, narrow) for kind, table in tables.items()}
        files = {f"{kind}-{shape}{few}.rows": shape for kind, shape in kinds.items()}
        if not make and not all((place / name).exists() for name in files):
            return f"they are not in {place}"
        try:
            place.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(self.folder):
                place.mkdir(exist_ok=True)  # somebody may just have made room
                hold = Hold(place)
                left = self.room - given(self.folder, place)
                slots = _slots(place, files, keys, left, may_forget=make and hold.is_alone())
                if not min(slots.values()):
                    hold.let_go()
                    return f"train.cache_gb leaves no room in {place} beside what is in use"
                os.utime(place)
                rows = [
                    Rows(
                        place / name, shape.width, shape.dtype, keys, slots[name] * shape.row_bytes
                    )
                    for name, shape in files.items()
                ]
                sweep(self.folder, place, self.room)
        except OSError as error:
            return f"{place} cannot be written ({error.strerror})"
        return Store(place, dict(zip(kinds, rows, strict=True)), keys, say, hold)

    def close(self, store: Store) -> None:
        """It is no longer in use; what is too much by now is deleted."""
        store.let_go()
        with suppress(OSError), one_at_a_time(self.folder):
            sweep(self.folder, store.folder, self.room)


class Store:
    """One teacher's answers, open."""

    def __init__(
        self, folder: Path, rows: Mapping[str, Rows], keys: int, say: Say, hold: Hold
    ) -> None:
        self.folder, self._hold = folder, hold
        self._rows, self._keys, self._say = rows, keys, say
        self._is_readable = self._is_writable = True

    @property
    def share(self) -> float:
        """Share of all keys that there is room for."""
        return min(1.0, *(rows.slots / self._keys for rows in self._rows.values()))

    def get(
        self, keys: Indices, *, pinned: bool = False
    ) -> tuple[dict[str, Tensor], NDArray[np.bool_]]:
        """The answers to (B,) keys by kind, (B, width) float32, and which of them are there.

        Of a disk that cannot be read any more, which is told once, none is.

        Args:
            keys: whose answers.
            pinned: into memory that a GPU can be sent without waiting.
        """
        found: dict[str, Tensor] = {}
        there = np.full(len(keys), self._is_readable)
        try:
            for kind, rows in self._rows.items() if self._is_readable else ():
                table, known = rows.get(keys)
                found[kind] = table.pin_memory() if pinned else table
                there &= known
        except OSError as error:
            self._is_readable = self._is_writable = False
            there[:] = False
            self._say(f"teacher: {self.folder} cannot be read ({error.strerror}); it is asked anew")
        return found, there

    def put(self, keys: Indices, tables: Mapping[str, Tensor]) -> None:
        """Keep the answers to (B,) keys; a full disk is told once, and ends the writing."""
        if not self._is_writable or not len(keys):
            return
        try:
            for kind, rows in self._rows.items():
                rows.put(keys, tables[kind])
        except OSError as error:
            self._is_writable = False
            self._say(
                f"teacher: no more of its answers are kept: {self.folder}: {error.strerror}. The "
                "training goes on; free some space, or give less with train.cache_gb."
            )

    def touch(self) -> None:
        """It is in use."""
        with suppress(OSError):
            os.utime(self.folder)

    def forget(self) -> None:
        """Delete all answers, which turned out to be wrong; others who have them find that, too."""
        for rows in self._rows.values():
            rows.unlink()
        self.let_go()

    def let_go(self) -> None:
        """It is no longer in use."""
        self._is_writable = False
        self._hold.let_go()


@dataclass(frozen=True)
class _Kind:
    """How the answers of one kind are kept."""

    width: int
    dtype: torch.dtype

    @classmethod
    def of(cls, table: Tensor, narrow: torch.dtype | None) -> _Kind:
        """In the narrow numbers they were computed in, if they come back as they were."""
        if narrow is not None and torch.equal(table.to(narrow).float(), table):
            return cls(table.shape[1], narrow)
        return cls(table.shape[1], torch.float32)

    @classmethod
    def named(cls, file: str) -> _Kind | None:
        """Of a file of that name; ``None`` where it has another one's."""
        found = re.fullmatch(r"[a-z]+-(\d+)-(float32|bfloat16|float16)(-batch\d+)?\.rows", file)
        return cls(int(found[1]), getattr(torch, found[2])) if found else None

    @property
    def row_bytes(self) -> int:
        return WORD * (1 + words_of(self.width, self.dtype))

    def __str__(self) -> str:
        return f"{self.width}-{str(self.dtype).removeprefix('torch.')}"


def _slots(
    place: Path, files: Mapping[str, _Kind], keys: int, room: int, *, may_forget: bool
) -> dict[str, int]:
    """How many rows each file has, or is to have; 0 where there is no room for it.

    Files that are there stay as they are unless they, or what is to stand beside them, could
    clearly be larger: then all are deleted, and begin anew with room for equally many rows each.
    """
    there = {file.name: file.stat().st_size for file in place.glob("*.rows")}
    known = {name: kind for name in there if (kind := _Kind.named(name))} | dict(files)
    fair = max(0, min(keys, room // sum(kind.row_bytes for kind in known.values())))
    new = [kind.row_bytes for name, kind in files.items() if name not in there]
    left = max(0, min(fair, (room - sum(there.values())) // max(1, sum(new))))
    slots = {
        name: there[name] // kind.row_bytes if name in there else left
        for name, kind in files.items()
    }
    too_large = sum(there.values()) > room
    larger = fair > 0 and fair >= CLEARLY * min(slots.values())
    if there and may_forget and (too_large or larger):
        for name in there:
            (place / name).unlink(missing_ok=True)
        return dict.fromkeys(files, fair)
    return dict.fromkeys(files, 0) if too_large else slots
