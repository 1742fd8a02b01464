"""WebDataset shards with an _info.json, such as wds/FOLDER."""

from __future__ import annotations

import io
import json
import tarfile
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgekd.data import FORMATS, Source, Split
from edgekd.data._places import Member, collect, members
from edgekd.errors import DataError, reason
from edgekd.files import read_json
from edgekd.structure import LONGEST, mismatch, shown

__all__ = ["wds"]

SPLITS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
IMAGES = ("jpg", "png", "webp", "jpeg")
"""What an image may be called, the first first, where a sample has several."""
EXPECTED = (
    "Expected shards and what they hold, such as "
    '{"splits": {"train": {"filenames": [...], "shard_lengths": [...]}}}.'
)
_PART = {
    "type": "object",
    "required": ["filenames", "shard_lengths"],
    "properties": {
        "filenames": {"type": "array", "items": {"type": "string"}},
        "shard_lengths": {"type": "array", "items": {"type": "number", "minimum": 0}},
        "num_samples": {"type": "number"},
        "alt_label": {"type": ["string", "null"]},
    },
}
DESCRIPTION = {
    "type": "object",
    "required": ["splits"],
    "properties": {
        "splits": {
            "type": "object",
            "properties": {name: _PART for names in SPLITS.values() for name in names},
        },
        "class_names": {"type": ["array", "null"], "items": {"type": "string"}},
    },
}
"""Of ``_info.json``; what another split says is not read."""
MOST_CLASSES = 1_000_000
MOST_SAID = 2**20
"""Bytes of a sample's ``.cls`` or ``.json``."""


def wds(rest: str) -> Source:
    """Each shard's headers are read once; images are read where they stand, when they are shown.

    ``_info.json`` lists the shards of each split with their lengths, as timm documents, and may
    hold ``class_names``. The class of a sample is in its ``.cls``, or in its ``.json`` under the
    name that the split calls ``alt_label``. A sample that a shard has twice is refused: it could be
    in training and held out of it. Shards are plain files: an address or a command, as
    the package ``webdataset`` would follow, is not opened.

    Raises:
        DataError: no such folder or description, or shards that are not what it says.
    """
    root = Path(rest)
    info = _info(root / "_info.json")
    listed = info["splits"]
    found = {
        split: _split(_Shards.read(root, name, listed[name]))
        for split, name in _used(listed).items()
    }
    count = 1 + max(int(split.targets.max()) for split in found.values())
    labels = info.get("class_names") or [str(number) for number in range(count)]
    if len(labels) < count:
        raise DataError(
            f"{root / '_info.json'} names {len(labels)} classes, the shards have {count} classes. "
            "Name them all, in the order of their numbers."
        )
    return Source(tuple(labels), found)


def _info(file: Path) -> Mapping[str, Any]:
    """What the description says, once it was found to be one."""
    try:
        info = read_json(file)
        if wrong := mismatch(info, DESCRIPTION):
            raise ValueError(wrong)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {reason(error)}. {EXPECTED}") from error
    listed: Mapping[str, Any] = info["splits"]
    if "train" not in listed:
        there = ", ".join(map(shown, listed)) or "none"
        raise DataError(
            f"{file} lists no split named train; there are: {there}. Call the one to train on so."
        )
    tables = (listed[key] for key in _used(listed).values())
    for name, times in Counter(Path(one) for table in tables for one in table["filenames"]).items():
        if times > 1:
            raise DataError(
                f"{file} lists {shown(str(name))} {times} times. A shard's images are in one "
                "split, and once; leave the others out."
            )
        if name.is_absolute() or ".." in name.parts:
            raise DataError(f"{file} lists {shown(str(name))}; expected shards that lie beside it.")
    found: Mapping[str, Any] = info
    return found


def _used(listed: Mapping[str, Any]) -> dict[str, str]:
    """Under which of its names each split is listed; a second name for it is another's matter."""
    return {split: name for split, names in SPLITS.items() for name in names if name in listed}


@dataclass(frozen=True)
class _Shards:
    """What a description says of one split."""

    root: Path
    name: str
    files: tuple[Path, ...]
    lengths: tuple[int, ...]
    label: str
    """The field of a sample's ``.json`` with its class; empty: it is in its ``.cls``."""

    @classmethod
    def read(cls, root: Path, name: str, table: Mapping[str, Any]) -> _Shards:
        files = tuple(root / file for file in table["filenames"])
        lengths = tuple(map(int, table["shard_lengths"]))
        total, label = table.get("num_samples", sum(lengths)), table.get("alt_label", "")
        if len(files) != len(lengths) or sum(lengths) != total or not total:
            raise DataError(
                f"{root / '_info.json'} lists {len(files)} shards of {name}, {len(lengths)} "
                f"lengths, {sum(lengths)} images together, and {total} in num_samples. "
                "Correct the lengths."
            )
        return cls(root, name, files, lengths, str(label or ""))


def _split(shards: _Shards) -> Split:
    targets = array("q")

    def samples() -> Iterator[tuple[int, Member]]:
        for number, file in enumerate(shards.files):
            found = 0
            for image, target in _samples(file, shards.label):
                targets.append(target)
                yield number, image
                found += 1
            if found != shards.lengths[number]:
                raise DataError(
                    f"{file} holds {found} {shards.name} images, its _info.json says "
                    f"{shards.lengths[number]}. Replace the damaged shard, or correct the lengths."
                )

    places, names = collect(shards.files, samples())

    def image(row: int) -> Image.Image:
        return Image.open(io.BytesIO(places.read(row)), formats=FORMATS)

    def name(row: int) -> str:
        return f"{shards.files[places.file[row]]}/{names[row]}"

    return Split(np.frombuffer(targets, np.int64), image, name, places.stamp)


def _samples(shard: Path, label: str) -> Iterator[tuple[Member, int]]:
    """The image and the class of each sample: files beside one another, called alike.

    Raises:
        DataError: the shard cannot be read, or a sample has no image or no class.
    """
    try:
        if shard.exists() and not shard.is_file():
            raise OSError("it is no plain file")
        with shard.open("rb") as file:
            for key, parts in _grouped(shard):
                found = [parts[end] for end in IMAGES if end in parts]
                said = parts.get("json" if label else "cls")
                if not found or said is None:
                    raise ValueError(
                        f"the sample {key} has {', '.join(sorted(parts))}; expected one of "
                        f"{', '.join(IMAGES)}, and {'json' if label else 'cls'}"
                    )
                if said.size > MOST_SAID:
                    raise ValueError(f"the class of the sample {key} takes {said.size:,} bytes")
                file.seek(said.start)
                yield found[0], _class(key, file.read(said.size), label)
    except (OSError, tarfile.TarError, ValueError) as error:
        raise DataError(
            f"the shard {shard} cannot be read: {reason(error)}. Replace it, or take it "
            "out of _info.json."
        ) from error


def _grouped(shard: Path) -> Iterator[tuple[str, dict[str, Member]]]:
    """Neighbours whose names are one up to the first dot, by what follows it.

    Names that begin with two underscores are of the shard, and of none of its samples.
    """
    last, parts, seen = "", dict[str, Member](), set[str]()
    for member in members(shard):
        if member.name.startswith("__"):
            continue
        folder, slash, own = member.name.rpartition("/")
        stem, _, end = own.partition(".")
        key, end = folder + slash + stem, end.lower()
        if key != last and parts:
            yield last, parts
            parts = {}
        if key != last:
            if key in seen:
                raise ValueError(f"the sample {key} is there twice; expected it once")
            seen.add(key)
        if end in parts:
            raise ValueError(f"the sample {key} has two files .{end}")
        last, parts[end] = key, member
    if parts:
        yield last, parts


def _class(key: str, said: bytes, label: str) -> int:
    try:
        found = int(json.loads(said)[label]) if label else int(said)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        where = f"the field {label} of its json" if label else "its cls"
        raise ValueError(
            f"{where} does not tell the class of the sample {key}: it holds "
            f"{shown(said[:LONGEST].decode('utf-8', 'replace'))}; expected a number"
        ) from error
    if not 0 <= found < MOST_CLASSES:
        raise ValueError(
            f"the class of the sample {key} is {found}; expected 0 to {MOST_CLASSES - 1:,}"
        )
    return found
