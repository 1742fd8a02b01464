"""Files and folders that appear complete or not at all: written aside, flushed, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgekd.errors import UsageError


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Yield a private path in the same folder; rename it to ``path`` if the block succeeds.

    The block may write a file or make a folder there. A folder that was at ``path`` is replaced.
    Nothing is left behind when the block fails.

    Raises:
        UsageError: the folder cannot be written: read-only, no space.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        private = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            draft = private / path.name
            yield draft
            flush(draft)
            if draft.is_dir() and path.is_dir():
                path.rename(private / "replaced")
            draft.replace(path)
        finally:
            shutil.rmtree(private, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into sentences."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise UsageError(
            f"cannot write {path}: {error.strerror}. "
            "Choose another place with --output, or free some space."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with aside(path) as draft:
        draft.write_text(text, "utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all; infinities are refused, because JSON has none."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """Hash of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(draft: Path) -> None:
    """Force what was written to the disk, so that a power cut cannot leave an empty name."""
    for file in [draft] if draft.is_file() else [f for f in draft.rglob("*") if f.is_file()]:
        with suppress(OSError), file.open("rb") as handle:
            os.fsync(handle.fileno())
