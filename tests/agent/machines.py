"""Made-up machines: files of /proc and /sys under a folder, programs that say what they are told.

All texts are written by hand after the documented formats, unless a comment says otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def machine(root: Path, files: Mapping[str, str]) -> Path:
    """Write a machine's files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def program(folder: Path, name: str, body: str) -> Path:
    """A program in Python; the arguments are ``sys.argv[1:]``."""
    file = folder / name
    file.write_text(f"#!{sys.executable} -S\nimport sys\n{body}\n")
    file.chmod(0o755)
    return file


def says(folder: Path, name: str, text: str) -> Path:
    """A program that prints a text, whatever it is asked."""
    return program(folder, name, f"print({text!r})")
