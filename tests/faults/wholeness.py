"""Wholeness: what stands under its own name in a folder of edgekd's can be read to its end."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from safetensors.torch import load_file

from edgekd.artifact import MANIFEST, Artifact
from edgekd.files import DRAFT


def broken(folder: Path) -> list[str]:
    """Files that are no whole ones, each with what is wrong; hidden ones are nobody's yet."""
    found = []
    for file in sorted(folder.rglob("*")):
        within = file.relative_to(folder)
        if any(part.startswith(".") for part in within.parts) or not file.is_file():
            continue
        try:
            _read(file)
        except Exception as error:  # whatever a reader says of a file that is none
            found.append(f"{within}: {type(error).__name__}: {error}")
    return found


def left_in_private(home: Path) -> list[str]:
    """What is left in a cache, in the settings and in the system's place for temporary files."""
    drafts = [*home.rglob(f"{DRAFT}*"), *home.rglob(".draft*"), *home.rglob("*.part")]
    return sorted(str(path.relative_to(home)) for path in drafts)


def _read(file: Path) -> None:
    if file.name == MANIFEST:
        Artifact.open(file.parent)
    for pattern, read in READERS.items():
        if file.match(pattern):
            read(file)


def _lines(file: Path) -> None:
    for line in file.read_text("utf-8").splitlines():
        json.loads(line)


def _growing(file: Path) -> None:
    """It is appended to; who goes on with it cuts off what a kill left of the last line."""
    for line in file.read_text("utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            json.loads(line)


def _page(file: Path) -> None:
    assert file.read_text("utf-8").rstrip().endswith("</html>"), "it stops before its end"


READERS: dict[str, Callable[[Path], Any]] = {
    "*.json": lambda file: json.loads(file.read_text("utf-8")),
    "*.safetensors": load_file,
    "*.onnx": lambda file: onnx.checker.check_model(onnx.load(file)),
    "*.toml": lambda file: tomllib.loads(file.read_text("utf-8")),
    "*.pt": lambda file: torch.load(file, weights_only=True),
    "*.html": _page,
    "*.samples.jsonl": _lines,
    "metrics.jsonl": _growing,
}
