"""The timing cache: what builds on this device have measured, so that the next one need not."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, Optional


def cache_folder() -> Path:
    """Where the user's caches are on this device."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "edgekd" / "tensorrt"


def cache_file(folder: Path, tensorrt: str, gpu: str) -> Path:
    """One for each release and GPU: TensorRT refuses those of another."""
    return folder / f"{_slug(gpu)}-tensorrt-{_slug(tensorrt)}.cache"


def attach(config: Any, file: Optional[Path]) -> str:
    """Give a build its cache: ``none``, ``new``, ``used``, or ``refused`` and hence new."""
    if file is None:
        return "none"
    old = _read(file)
    cache = config.create_timing_cache(old)
    if cache is not None and config.set_timing_cache(cache, False):
        return "used" if old else "new"
    config.set_timing_cache(config.create_timing_cache(b""), False)
    return "refused"


def keep(config: Any, file: Optional[Path]) -> None:
    """Write what the build measured; a cache that cannot be written only costs time."""
    cache = config.get_timing_cache() if file else None
    if file is None or cache is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_aside(file, bytes(cache.serialize()))
    except OSError:
        return


def write_aside(file: Path, data: bytes) -> None:
    """Write whole or not at all: another build may read it at the same time."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".")
    aside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        aside.replace(file)
    except BaseException:
        aside.unlink()
        raise


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-").lower()
