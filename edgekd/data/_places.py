"""Where many images are, in a few arrays: what forks shares them, however many there are.

A million Python objects take a gigabyte, and counting references to them copies it into every
process that decodes; arrays and one string of bytes do neither.
"""

from __future__ import annotations

import os
import re
import tarfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from edgekd.data import Indices

DIGITS = re.compile(r"(\d+)")
MOST_DIGITS = 4000
"""Of a number in a name; Python reads few more."""
FARTHEST = 2**62
COMPRESSED = {
    rb"\x1f\x8b": "gzip -d",
    rb"BZh[1-9]1AY&SY": "bzip2 -d",  # as a folder may be called BZh
    rb"\xfd7zXZ\x00": "xz -d",
    rb"\x28\xb5\x2f\xfd": "zstd -d",
}
"""How files begin that a program has compressed, as patterns, and what undoes it."""
MOST_MAGIC = 10
MOST_BYTES = 2**30
"""Of one encoded image: more than Pillow takes pixels of, however they are packed."""


class Names:
    """Many short texts in one piece of memory.

    Args:
        texts: in order.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        ends, held = array("q", [0]), bytearray()
        for text in texts:
            held += os.fsencode(text)
            ends.append(len(held))
        self._ends, self._held = np.frombuffer(ends, np.int64), bytes(held)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: int) -> str:
        return os.fsdecode(self._held[self._ends[row] : self._ends[row + 1]])

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    def at(self, rows: Indices) -> Names:
        """Those at ``rows``, in that order."""
        return Names(self[row] for row in rows)


@dataclass(frozen=True)
class Places:
    """Where each of N images stands in one of a few files."""

    files: tuple[Path, ...]
    file: Indices
    """(N,) which of the files."""
    start: Indices
    """(N,) its first byte."""
    size: Indices
    """(N,) bytes."""

    def at(self, rows: Indices) -> Places:
        """Those at ``rows``, in that order."""
        return Places(self.files, self.file[rows], self.start[rows], self.size[rows])

    def read(self, row: int) -> bytes:
        """The encoded image, through a handle of its own: one of all would be at one position.

        Raises:
            OSError: the file is gone, or ends too early; or the image is too large.
        """
        if self.size[row] > MOST_BYTES:
            raise OSError(f"it has {self.size[row]:,} bytes; expected at most {MOST_BYTES:,}")
        with self.files[self.file[row]].open("rb", buffering=0) as file:
            file.seek(self.start[row])
            found: bytes = file.read(int(self.size[row]))
        if len(found) < self.size[row]:
            raise OSError(f"{file.name} ends within it")
        return found

    def stamp(self, row: int) -> str:
        """Where the image lies, and which state of the file that is."""
        whole = stamp_of(self.files[self.file[row]])
        return f"{whole} {self.start[row]} {self.size[row]}"


def stamp_of(file: Path) -> str:
    """Bytes of a file, and when it was last written, in ns."""
    try:
        found = file.stat()
    except OSError:
        return "gone"
    return f"{found.st_size} {found.st_mtime_ns}"


@dataclass(frozen=True)
class Member:
    """A file in a tar."""

    name: str
    """Of a tar in the tar: under that one's name, where it has no folder itself."""
    start: int
    size: int


def members(file: Path) -> Iterator[Member]:
    """The regular files of a tar in their order, and those of tars in it; headers alone are read.

    What macOS keeps beside a file (``._name``) is left out.

    Raises:
        tarfile.TarError, OSError: it is no tar, damaged, cut off, or has a link in it.
    """
    try:
        _refuse_compressed(file)
        with tarfile.open(file, "r:") as tar:
            for one in _listed(tar):
                if PurePosixPath(one.name).suffix.lower() != ".tar":
                    yield Member(one.name, one.offset_data, one.size)
                    continue
                yield from _deeper(tar, one)
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:  # odd headers
        raise tarfile.ReadError("invalid header") from error


def _refuse_compressed(file: Path) -> None:
    """An image is read where it stands in a tar, which has to be a plain one for that."""
    with file.open("rb") as opened:
        begins = opened.read(MOST_MAGIC)
    for magic, program in COMPRESSED.items():
        if re.match(magic, begins):
            raise tarfile.ReadError(
                f"it is compressed, whatever its name says; unpack it to a plain tar ({program})"
            )


def _deeper(tar: tarfile.TarFile, one: tarfile.TarInfo) -> Iterator[Member]:
    """The files of a tar in a tar."""
    home = _plainly(one.name)[: -len(".tar")]
    try:
        with tarfile.open(fileobj=tar.extractfile(one), mode="r:") as inner:
            for deep in _listed(inner):
                own = _plainly(deep.name)
                name = own if "/" in own else f"{home}/{own}"
                yield Member(name, one.offset_data + deep.offset_data, deep.size)
    except tarfile.TarError as error:
        raise tarfile.ReadError(f"{one.name} in it: {error}") from error


def _plainly(name: str) -> str:
    return name.removeprefix("./")


def _listed(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    known = array("q")  # eight bytes a name
    while (member := tar.next()) is not None:
        if not member.offset < tar.offset < FARTHEST:  # where it says that the one after it is
            raise tarfile.ReadError(f"invalid header at byte {member.offset}")
        tar.members.clear()  # type: ignore[attr-defined]  # a kilobyte each, and there are millions
        if is_beside(member.name):
            continue
        if member.islnk() or member.issym():
            raise tarfile.ReadError(
                f"{member.name} is a link to {member.linkname}; pack the files themselves, with "
                "tar --dereference --hard-dereference"
            )
        if member.isreg():
            known.append(hash(_plainly(member.name)))
            yield member
    if np.unique(np.asarray(known)).size < len(known):  # one could be in training and in the test
        raise tarfile.ReadError(
            "it has two files of one name, such as one that was added anew; unpack it, and pack "
            "what comes out"
        )
    _check_end(tar)


def _check_end(tar: tarfile.TarFile) -> None:
    """It takes a broken header, or none, for the end: a shorter set would pass for the whole."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    block = tar.fileobj.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it is cut off (nothing says where it ends); copy it again")
    if block.strip(b"\0"):
        raise tarfile.ReadError(f"invalid header at byte {tar.offset}")


def is_beside(name: str) -> bool:
    """Whether it is what macOS keeps of a file on disks of others: ``._name``."""
    return PurePosixPath(name).name.startswith("._")


def collect(files: Sequence[Path], found: Iterable[tuple[int, Member]]) -> tuple[Places, Names]:
    """Keep (number of the file, member) pairs compactly."""
    columns = array("q"), array("q"), array("q")

    def names() -> Iterator[str]:
        for number, member in found:
            for column, value in zip(columns, (number, member.start, member.size), strict=True):
                column.append(value)
            yield member.name

    kept = Names(names())
    file, start, size = (np.frombuffer(column, np.int64) for column in columns)
    return Places(tuple(files), file, start, size), kept


def natural(text: str) -> list[int | str]:
    """A key that sorts as people count: ``9`` before ``10``, in any case."""
    parts = DIGITS.split(text.lower())
    return [int(part[:MOST_DIGITS]) if part.isdecimal() else part for part in parts]


def parted(name: str) -> tuple[str, str]:
    """The folder of an image and what it is called there."""
    folder, _, own = name.rpartition("/")
    return folder, own


def in_order(names: Names) -> Indices:
    """Rows in the natural order of whole names, a folder at a time: keys take ten times a name."""
    folders: dict[tuple[int | str, ...], array[int]] = {}
    keys: dict[str, tuple[int | str, ...]] = {}
    for row, name in enumerate(names):
        folder, _ = parted(name)
        if folder not in keys:
            keys[folder] = tuple(natural(f"{folder}/"))  # what follows it comes after all of it
        folders.setdefault(keys[folder], array("q")).append(row)
    order = array("q")
    for key in sorted(folders):
        order.extend(sorted(folders[key], key=lambda row: natural(names[row])))
    return np.frombuffer(order, np.int64)
