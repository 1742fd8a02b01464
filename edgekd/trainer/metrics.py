"""Metrics: one JSON object a line, always; trackers beside it on request."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from edgekd.files import write_text, writing

BEGIN, LONGEST = b'{"step":', 2**16


class Metrics:
    """Append to ``metrics.jsonl`` and to the trackers the user asked for.

    Args:
        path: the file; lines after ``step`` are cut off, because they will be written again.
        step: how far the training had come.
        accelerator: carries the trackers.
    """

    def __init__(self, path: Path, step: int, accelerator: Accelerator) -> None:
        self._path, self._accelerator = path, accelerator
        if accelerator.is_main_process:
            write_text(path, "".join(_lines_up_to(path, step)))

    def write(self, record: dict[str, Any]) -> None:
        """Write one record, which has its ``step``."""
        if self._accelerator.is_main_process:
            with writing(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        self._accelerator.log(dict(_flat(record)), step=record["step"])


def is_curve(path: Path) -> bool:
    """Whether a file begins as ``metrics.jsonl`` does, also cut off there, or holds nothing."""
    if not path.is_file():  # opening a pipe waits for whoever writes into it
        return False
    with suppress(OSError, ValueError, RecursionError), path.open("rb") as lines:
        first = lines.readline(LONGEST)
        if not first.strip(b"\0") or (BEGIN.startswith(first[:8]) and not first.endswith(b"\n")):
            return True  # a disk was full, or the power went
        record = json.loads(first)
        is_record = isinstance(record, dict) and {"step", "epoch"} <= record.keys()
        return is_record and any(name in record for name in ("losses", "validation"))
    return False


def _lines_up_to(path: Path, step: int) -> list[str]:
    if not path.is_file():
        return []
    kept = []
    for line in path.read_text("utf-8", "replace").splitlines(keepends=True):
        try:  # a kill may have cut the last line, and a power cut left anything there
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, LookupError, TypeError, RecursionError):
            break
    return kept


def _flat(record: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in record.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}/")
        else:
            found.append((prefix + key, value))
    return found
