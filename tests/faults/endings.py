"""What a folder of edgekd holds, but for what differs each time a command is run: the times."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

TIMES = {"created", "timestamp", "seconds", "versions"}
TIMES |= {"images_per_s", "peak_gb", "teacher_hits", "together"}
HASHES = {"sha256", "bytes", "tuned_from"}
"""Of files that say when they were made, or whose parents do."""
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
MARK = re.compile(r"place:[0-9a-f]{12}")
"""By a key of the user's cache, and each command has its own."""
DOUBT = re.compile(r" \((?:not stable|measured twice)[^()]*\)")
CHANCE = re.compile(
    "measured longer|^teacher: |^memory: |^loading is |^lost the link|^the link to "
    "|^nothing is kept for the next time: "
)
Ending = dict[str, Any]


def ending(folder: Path) -> Ending:
    """Every file, and what is the same in it whenever the command is run."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(file.relative_to(folder)): _content(file) for file in sorted(files)}


def left_over(folder: Path) -> list[str]:
    """What should not be there any more."""
    found = (*folder.rglob(".*"), *folder.rglob("checkpoint*"))
    return sorted(str(path.relative_to(folder)) for path in found)


def without(value: Any, names: set[str]) -> Any:
    """JSON without some keys, wherever they are."""
    if isinstance(value, dict):
        return {key: without(one, names) for key, one in value.items() if key not in names}
    if isinstance(value, list):
        return [without(one, names) for one in value]
    return value


def wordings(lines: list[str]) -> list[str]:
    """Sentences without their numbers: what was measured twice is never twice the same.

    Nor is how busy the machine was, which is said in parentheses, and that it took longer then; nor
    what a training found in its cache and held in memory, which it says of each sitting; nor a
    listener that was killed, and found its run again; nor a cache that cannot be written.
    """
    kept = [DOUBT.sub("", line) for line in lines if not CHANCE.search(line)]
    return [NUMBER.sub("#", line) for line in kept]


def _content(file: Path) -> Any:
    for pattern, read in READERS.items():
        if file.match(pattern):
            return read(file)
    return None


def _table(file: Path) -> Any:
    return without(json.loads(MARK.sub("place", file.read_text("utf-8"))), TIMES | HASHES)


def _lines(file: Path) -> Any:
    lines = file.read_text("utf-8").splitlines()
    return [without(json.loads(line), TIMES) for line in lines]


def _graph(file: Path) -> str:
    """The network itself; the file's metadata name the manifest it was made from."""
    model = onnx.load(file)
    del model.metadata_props[:]
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _summary(file: Path) -> Any:
    table = json.loads(file.read_text("utf-8"))
    budget = table.get("budget") or {}
    return {
        "keys": sorted(table),
        "gain": table.get("gain"),
        "decisions": wordings(table["decisions"]),
        "stages": list(table["seconds"]),
        "state": budget.get("state"),
        "best": budget.get("best"),
        "artifact": budget.get("artifact"),
        "attempts": [
            [attempt[name] for name in ("key", "epochs", "precision", "rung", "state")]
            for attempt in budget.get("attempts", ())
        ],
        "test": budget.get("test"),
    }


def _comparison(file: Path) -> Any:
    return without(_table(file), {"cost", "teacher_ms_per_step", "teacher_hits", "command"})


def _measurements(file: Path) -> Any:
    """What was measured, on what, and how right it was; how fast it was is never twice the same."""
    kept = ("accuracy", "failure", "policy")
    records = json.loads(file.read_text("utf-8"))
    return [[sorted(record), *(record.get(name) for name in kept)] for record in records]


def _proof(file: Path) -> Any:
    table = json.loads(file.read_text("utf-8"))
    return {name: table[name] for name in ("device", "data", "images", "predictions", "answers")}


def _scouted(file: Path) -> Any:
    """Whom it ranked; the order is by what was measured."""
    table = json.loads(file.read_text("utf-8"))
    return sorted(f"{each['name']} {each['precision']}" for each in table["candidates"])


def _unmarked(file: Path) -> str:
    return MARK.sub("place", file.read_text("utf-8"))


def _bytes(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


READERS: dict[str, Callable[[Path], Any]] = {
    "*.safetensors": _bytes,
    "recipe.toml": _unmarked,
    "answers.json": _bytes,
    "model.onnx": _graph,
    "manifest.json": _table,
    "metrics.jsonl": _lines,
    "run.json": _summary,
    "compare.json": _comparison,
    "profile.json": _measurements,
    "scout.json": _scouted,
    "proof/*.json": _proof,
}
"""The rest is only to be there: what was measured, and pages that show it."""
