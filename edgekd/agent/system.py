"""What the system says of itself: small files and short programs, where there are any."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Optional

PATIENCE_S = 5.0


def read(path: Path) -> Optional[str]:
    """A small file of the system's, trimmed; None where there is none that can be read."""
    try:
        return path.read_text("utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None


def integer(path: Path) -> Optional[int]:
    """A file that holds one whole number; None where it does not."""
    text = read(path) or ""
    digits = text[1:] if text.startswith("-") else text
    return int(text) if digits.isascii() and digits.isdigit() else None


def ask(*argv: str, timeout_s: float = PATIENCE_S) -> Optional[str]:
    """What a program prints; None if there is no such program, or it fails, or takes too long."""
    if shutil.which(argv[0]) is None:
        return None
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace")
