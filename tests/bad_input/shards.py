"""Tars and shards that are damaged, or mean harm."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.bad_input.table import Case, Cases, Place

Files = dict[str, bytes | tarfile.TarInfo]


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def packed(files: Files) -> bytes:
    """A tar of these; a header alone stands for itself."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


def images() -> Files:
    return {f"{label}/{n}.png": picture() for label in ("cat", "dog") for n in range(4)}


def link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def header(**fields: Any) -> bytes:
    """One block that says this of what follows it."""
    info = tarfile.TarInfo("cat/9.png")
    for name, value in fields.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(words: bytes) -> bytes:
    """A header of the kind that changes what the next one says."""
    block = words + bytes(-len(words) % 512)
    return header(name="pax", type=tarfile.XHDTYPE, size=len(words)) + block


def tarred(content: Callable[[], bytes]) -> Case:
    def case(place: Place) -> list[str | Path]:
        (place.tmp / "images.tar").write_bytes(content())
        return place.teach(place.tmp / "images.tar")

    return case


def sharded(info: Any, shard: Callable[[], bytes] = lambda: b"") -> Case:
    """A folder of one shard, and its description."""

    def case(place: Place) -> list[str | Path]:
        folder = place.tmp / "shards"
        folder.mkdir()
        (folder / "0.tar").write_bytes(shard())
        text = info if isinstance(info, str) else json.dumps(info)
        (folder / "_info.json").write_text(text)
        return place.distill("--data", f"wds/{folder}")

    return case


def described(count: int = 1, **more: Any) -> dict[str, Any]:
    return {"splits": {"train": {"filenames": ["0.tar"], "shard_lengths": [count]}}, **more}


def sample(said: bytes) -> Callable[[], bytes]:
    """A shard of one sample with this class."""
    return lambda: packed({"1.png": picture(), "1.cls": said})


def piped(place: Place) -> list[str | Path]:
    words = sharded(described())(place)
    (place.tmp / "shards" / "0.tar").unlink()
    os.mkfifo(place.tmp / "shards" / "0.tar")
    return words


def piped_description(place: Place) -> list[str | Path]:
    words = sharded(described())(place)
    (place.tmp / "shards" / "_info.json").unlink()
    os.mkfifo(place.tmp / "shards" / "_info.json")
    return words


CUT = ["images.tar cannot be read", "it is cut off"]
BROKEN = ["images.tar cannot be read", "invalid header"]
CASES: Cases = {
    "tar with a link": (
        tarred(lambda: packed({**images(), "cat/9.png": link(tarfile.SYMTYPE)})),
        2,
        ["cat/9.png is a link to /etc/passwd", "pack the files themselves"],
    ),
    "tar with a hard link": (
        tarred(lambda: packed({**images(), "cat/9.png": link(tarfile.LNKTYPE)})),
        2,
        ["cat/9.png is a link to /etc/passwd"],
    ),
    "tar that was cut off": (tarred(lambda: packed(images())[:2048]), 2, CUT),
    "tar of words": (tarred(lambda: b"cat dog " * 100), 2, ["images.tar cannot be read"]),
    "tar of nothing": (tarred(lambda: b""), 2, ["images.tar cannot be read"]),
    "tar of zeros": (tarred(lambda: bytes(10_240)), 2, ["images.tar cannot be read: no images"]),
    "tar that is packed": (
        tarred(lambda: gzip.compress(packed(images()))),
        2,
        ["images.tar cannot be read"],
    ),
    "tar that is packed many times": (
        tarred(lambda: gzip.compress(bytes(2**27))),
        2,
        ["images.tar cannot be read"],
    ),
    "tar with a size beyond it": (
        tarred(lambda: header(size=2**33) + picture() + bytes(2048)),
        2,
        ["images.tar cannot be read", "unexpected end of data"],
    ),
    "tar with a size beyond all": (
        tarred(lambda: header(size=2**80) + picture() + bytes(2048)),
        2,
        ["images.tar cannot be read"],
    ),
    "tar with a size below zero": (
        tarred(lambda: pax(b"17 size=-100000\n\n") + header(size=0) + bytes(2048)),
        2,
        ["images.tar cannot be read"],
    ),
    "tar that leads back": (
        tarred(lambda: header(size=-512) + packed(images())),
        2,
        ["images.tar cannot be read"],
    ),
    "tar of headers": (
        tarred(lambda: pax(b"11 path=abc\n") * 3000 + header(size=0) + bytes(1024)),
        2,
        BROKEN,
    ),
    "tar with a broken header": (
        tarred(lambda: packed(images())[:-9000] + b"broken" * 2000),
        2,
        ["images.tar cannot be read"],
    ),
    "tar in a tar that is damaged": (
        tarred(lambda: packed({"cat.tar": packed(images())[:700], "dog.tar": b"no tar"})),
        2,
        ["cat.tar in it:"],
    ),
    "tar with images beside the classes": (
        tarred(lambda: packed({**images(), "../9.png": picture()})),
        2,
        ["../9.png", "does not lie in a class folder beside the others"],
    ),
    "tar with a class in red": (
        tarred(lambda: packed({**images(), "\x1b[31m/9.png": picture()})),
        2,
        ["the class name '\\x1b[31m'", "has control characters"],
    ),
    # ---- shards ----
    "shards of no description": (sharded("words"), 2, ["_info.json cannot be read", "shards and"]),
    "shards of a list": (sharded([1, 2]), 2, ["_info.json cannot be read"]),
    "shards of lists in lists": (
        sharded("[" * 100_000),
        2,
        ["_info.json cannot be read", "nested too deeply"],
    ),
    "shards of nan": (
        sharded('{"splits": {"train": {"filenames": ["0.tar"], "shard_lengths": [NaN]}}}'),
        2,
        ["_info.json cannot be read", "NaN"],
    ),
    "shards described twice": (
        sharded('{"splits": {}, "splits": {}}'),
        2,
        ["_info.json cannot be read", "twice"],
    ),
    "shards that are a number": (
        sharded({"splits": {"train": 3}}),
        2,
        ["splits.train", "Expected shards and what they hold"],
    ),
    "shards of more images": (
        sharded(described(7), sample(b"1")),
        2,
        ["holds 1 train images", "says 7"],
    ),
    "shards with names that are a number": (
        sharded(described(class_names=3), sample(b"1")),
        2,
        ["class_names is 3", "expected array"],
    ),
    "shards with a name of control characters": (
        sharded(described(class_names=["c\x07t", "dog"]), sample(b"1")),
        2,
        ["the class name 'c\\x07t'", "has control characters"],
    ),
    "shards of a million classes": (
        sharded(described(), sample(b"999999999999")),
        2,
        ["the class of the sample 1 is 999999999999", "expected 0 to 999,999"],
    ),
    "shards of no class": (sharded(described(), sample(b"cat")), 2, ["its cls does not tell"]),
    "shards of many digits": (
        sharded(described(), sample(b"9" * 9000)),
        2,
        ["its cls does not tell the class of the sample 1"],
    ),
    "shards of a long class": (
        sharded(described(), sample(bytes(2**21))),
        2,
        ["the class of the sample 1 takes 2,097,152 bytes"],
    ),
    "shard that is a pipe": (piped, 2, ["0.tar cannot be read: it is no plain file"]),
    "description that is a pipe": (piped_description, 2, ["_info.json", "it is no plain file"]),
}
