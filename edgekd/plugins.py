"""One file, one plug-in: found by its file name, imported only when it is used.

A shelf is a folder of the package; a file on it is a plug-in whose name is the file's name and
whose summary is the first line of its docstring. Files are *parsed* to be listed, so that
``edgekd list method`` never imports torch.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

from edgekd.errors import UnknownNameError

SHELVES = {
    "method": "methods",
    "dataset": "data",
    "device": "devices",
    "runtime": "agent/runtimes",
    "format": "export",
    "verb": "cli",
}


def summaries(kind: str) -> dict[str, str]:
    """Name and summary of each plug-in of a kind, sorted by name; nothing is imported."""
    return {name: _docstring(file).partition("\n")[0] for name, file in files(kind).items()}


def files(kind: str) -> dict[str, Path]:
    """Name and file of each plug-in of a kind, sorted by name."""
    folder = Path(__file__).parent / SHELVES[kind]
    return {f.stem: f for f in sorted(folder.glob("*.py")) if not f.stem.startswith("_")}


def load(kind: str, name: str) -> Any:
    """Import the plug-in and return its one public object, the single name in its ``__all__``.

    Raises:
        UnknownNameError: if there is no such plug-in; the message says which there are.
    """
    known = files(kind)
    if name not in known:
        raise UnknownNameError(kind, name, known)
    module = importlib.import_module(f"edgekd.{SHELVES[kind].replace('/', '.')}.{name}")
    (public,) = module.__all__
    return getattr(module, public)


def _docstring(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
