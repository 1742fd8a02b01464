"""Rows: vectors of one length in a sparse file, found by number, each with a checksum of its own.

A row is written with one ``pwrite`` and read with one ``pread``, of about a microsecond where the
system has the page. What a kill, a power cut or two writers at once may leave of a row fails its
checksum, which its key decides too, and is as good as absent; so is what was never written. Without
locks, and without waiting for the disk. Not through a memory map: there a hole that is read on a
full disk is no error but the end of the process (SIGBUS; tmpfs does it), and every page that was
ever looked at counts as the process's own.
"""

from __future__ import annotations

import errno
import os
import shutil
import weakref
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekd.data import Indices
from edgekd.files import held_folder

Words = NDArray[np.uint64]

WORD = 8
"""Bytes; a checksum has as many."""
_STEP, _MIX1, _MIX2 = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
)


class Rows:
    """The open file.

    Args:
        path: the file; it is made if it is not there. Its size says how many rows it has room for.
        width: values of a row.
        dtype: of the values as they are kept; they come and go as float32.
        keys: keys are below this.
        room: bytes that a new file may have; fewer rows than keys share their places, and the row
            that comes first stays.

    Raises:
        OSError: the file cannot be made or opened.
    """

    def __init__(self, path: Path, width: int, dtype: torch.dtype, keys: int, room: int) -> None:
        self._width, self._dtype = width, dtype
        self._words = 1 + words_of(width, dtype)
        if not path.exists():
            _make(path, min(keys, max(1, room // self.row_bytes)) * self.row_bytes)
        self._file = os.open(path, os.O_RDWR)
        weakref.finalize(self, os.close, self._file)
        self.slots = os.fstat(self._file).st_size // self.row_bytes
        if not self.slots:
            raise OSError(errno.EIO, f"{path.name} is empty; delete it")
        self._keys, self._path = keys, path

    @property
    def row_bytes(self) -> int:
        """Size of a row in the file."""
        return self._words * WORD

    def get(self, keys: Indices) -> tuple[Tensor, NDArray[np.bool_]]:
        """The rows of (B,) keys as (B, width) float32, and which of them are there.

        The others hold whatever lies in their place.

        Raises:
            OSError: the disk is gone.
        """
        rows = self._read(keys % self.slots, self.row_bytes)
        there = rows[:, 0] == checksums(rows[:, 1:], keys)
        flat = torch.from_numpy(rows[:, 1:]).contiguous().view(self._dtype)
        return flat[:, : self._width].float().contiguous(), there  # strides change what is rounded

    def put(self, keys: Indices, values: Tensor) -> None:
        """Write rows (B, width), float32 on the CPU, but for those that find no room.

        Raises:
            OSError: the disk is full, or gone.
        """
        rows, exact = self._packed(values)
        places = keys % self.slots
        if self.slots < self._keys:  # the first one stays: a place that was written has a checksum
            exact &= self._read(places, WORD)[:, 0] == 0
        rows[:, 0] = checksums(rows[:, 1:], keys)
        for row in np.flatnonzero(exact):
            written = os.pwrite(self._file, rows[row].data, int(places[row]) * self.row_bytes)
            if written < self.row_bytes:  # the next attempt says why
                os.pwrite(self._file, rows[row].data, int(places[row]) * self.row_bytes)

    def unlink(self) -> None:
        """Delete the file, unless it is another one by now; who has it open keeps it."""
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._file), self._path.stat()):
                self._path.unlink()

    def _packed(self, values: Tensor) -> tuple[Words, NDArray[np.bool_]]:
        """Rows without their checksums, and which of them come back as they went."""
        narrow = torch.zeros(
            (len(values), (self._words - 1) * WORD // self._dtype.itemsize), dtype=self._dtype
        )
        narrow[:, : self._width] = values
        rows = np.empty((len(values), self._words), np.uint64)
        rows[:, 1:] = narrow.view(torch.uint8).numpy().view(np.uint64)
        if self._dtype == torch.float32:
            return rows, np.ones(len(values), np.bool_)
        back = narrow[:, : self._width].float()
        same = (back.view(torch.int32) == values.contiguous().view(torch.int32)).all(dim=1)
        return rows, same.numpy()

    def _read(self, places: Indices, size: int) -> Words:
        """The first bytes of some rows, as words; zeros where the file ends."""
        at = (places * self.row_bytes).tolist()
        read = b"".join([os.pread(self._file, size, place).ljust(size, b"\0") for place in at])
        return np.frombuffer(bytearray(read), np.uint64).reshape(len(places), -1)


def words_of(width: int, dtype: torch.dtype) -> int:
    """Words of 8 bytes that so many values fill."""
    return -(-width * dtype.itemsize // WORD)


def checksums(words: Words, keys: Indices) -> Words:
    """(B,) of words (B, W) under (B,) keys; never 0, so that what was never written has none."""
    folded = words ^ (words >> np.uint64(32))  # else the highest bits of two words could cancel out
    weights = _mixed(np.arange(1, words.shape[1] + 1, dtype=np.uint64)) | np.uint64(1)
    found: Words = _mixed(folded @ weights + _mixed(keys.astype(np.uint64))) | np.uint64(1)
    return found


def _mixed(words: Words) -> Words:
    """Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", 2014: splitmix64."""
    words = words * _STEP + _STEP
    words = (words ^ (words >> np.uint64(30))) * _MIX1
    words = (words ^ (words >> np.uint64(27))) * _MIX2
    return words ^ (words >> np.uint64(31))


def _make(path: Path, size: int) -> None:
    """A file of zeros that takes no space, whole at once; one that another made meanwhile stays."""
    private, held = held_folder(path.parent)  # where a kill leaves it, a sweep takes it away
    try:
        draft = private / path.name
        with draft.open("wb") as file:
            file.truncate(size)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            draft.replace(path)
    finally:
        shutil.rmtree(private, ignore_errors=True)
        os.close(held)
