"""WebDataset shards with an _info.json, such as wds/FOLDER (pip install webdataset)."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgekd.data import Source, Split
from edgekd.errors import DataError

__all__ = ["wds"]

SPLITS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


def wds(rest: str) -> Source:
    """Through timm's reader; the shards are read once, in order, into memory.

    ``_info.json`` lists the shards of each split with their lengths, as timm documents, and may
    hold ``class_names``.

    Raises:
        DataError: no such folder or description, the package is missing, or samples are.
    """
    root = Path(rest)
    try:
        info: dict[str, Any] = json.loads((root / "_info.json").read_text("utf-8"))
        listed = set(info.get("splits", {}))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"{root / '_info.json'} cannot be read: {error}. Expected shards and a description "
            'such as {"splits": {"train": {"filenames": [...], "shard_lengths": [...]}}}.'
        ) from error
    if "train" not in listed:
        raise DataError(f"{root / '_info.json'} lists no split named train.")
    found = {
        split: _split(root, name)
        for split, names in SPLITS.items()
        for name in names
        if name in listed
    }
    count = 1 + max(int(split.targets.max()) for split in found.values())
    labels = info.get("class_names") or [str(number) for number in range(count)]
    if len(labels) < count:
        raise DataError(
            f"{root / '_info.json'} names {len(labels)} classes, the shards have {count} classes. "
            "Name them all, in the order of their numbers."
        )
    return Source(tuple(labels), found)


def _split(root: Path, name: str) -> Split:
    if find_spec("webdataset") is None:
        raise DataError(
            "--data wds/... needs the package webdataset, which is not installed: "
            "pip install webdataset"
        )
    from timm.data.readers import create_reader

    try:
        reader = create_reader("wds/", root=str(root), split=name)
        pairs: list[tuple[Image.Image, int]] = list(reader)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise DataError(f"the shards in {root} cannot be read: {error}") from error
    # the reader skips samples it cannot decode; a shorter set must not pass for the whole
    if len(pairs) != reader.num_samples:
        raise DataError(
            f"{root} holds {len(pairs)} readable {name} images, its _info.json says "
            f"{reader.num_samples}. Replace the damaged shard, or correct the lengths."
        )
    targets = np.array([target for _, target in pairs], np.int64)
    return Split(targets, lambda i: pairs[i][0], lambda i: f"{root} {name}[{i}]")
