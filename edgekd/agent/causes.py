"""What programs say when a device lacks something: their words recognised, and what to do."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path
from typing import Callable, Match, NamedTuple, Optional, Sequence

from edgekd.agent import releases


class Cause(NamedTuple):
    """A known cause: one word for programs, a sentence for people."""

    kind: str
    sentence: str


def of_import(text: str) -> Optional[Cause]:
    """What keeps a module from being imported; None if it is nothing that is known."""
    return _first(IMPORTS, text)


def of_system(text: str) -> Optional[Cause]:
    """What a system lacks, or does not take: memory, disk, a wheel; None if nothing known."""
    return _first(SYSTEM, text)


def _module(found: Match[str]) -> Cause:
    name = found.group(1).split(".")[0]
    wanted = releases.requirement("pillow" if name == "PIL" else name)
    wanted = f"'{wanted}'" if "=" in wanted else wanted
    here = f"{sys.executable} (Python {sys.version.split()[0]})"
    if name != found.group(1):  # Python finds the package, and not a part of it
        return Cause(
            "module",
            f"{here} has {name!r}, and in it no {found.group(1)!r}: it was made for another Python "
            f"or CPU, or copied in part. Install it anew: {sys.executable} -m pip install "
            f"--force-reinstall {wanted}",
        )
    return Cause(
        "module",
        f"{here} has no module {name!r}, which the agent needs. Install it there: "
        f"{sys.executable} -m pip install {wanted}",
    )


def _glibc(found: Match[str]) -> Cause:
    name, version = platform.libc_ver()
    cxx = found.group(1).startswith("GLIBCXX")
    have = f" (it has {name} {version})" if version and not cxx else ""
    return Cause(
        "library",
        f"the runtime was built for a newer system: it wants {found.group(1)}, which this one "
        f"lacks{have}. Install an older release of the runtime, or update the system.",
    )


def _wrong_machine(found: Match[str]) -> Cause:
    bits = "32" if sys.maxsize < 2**32 else "64"
    return Cause(
        "architecture",
        f"{found.group('file')} was made for another kind of CPU than this one, which is "
        f"{platform.machine()} with a {bits}-bit Python. It was copied from another machine: "
        f"install it anew on the device itself, with {sys.executable} -m pip install "
        "--force-reinstall.",
    )


def _damaged(found: Match[str]) -> Cause:
    return Cause(
        "library",
        f"{found.group('file')} is not a whole library: its download or its copy was cut short. "
        f"Install it anew: {sys.executable} -m pip install --force-reinstall --no-cache-dir.",
    )


def _library(found: Match[str]) -> Cause:
    if os.sep in found.group("file") and Path(found.group("file")).exists():
        return _wrong_machine(found)  # glibc says "no such file" of those for another CPU
    return Cause(
        "library",
        f"the runtime needs {Path(found.group('file')).name}, which is not on this device's "
        "library path. Install the package that has it, or add its folder to LD_LIBRARY_PATH.",
    )


def _wheel(found: Match[str]) -> Cause:
    python = ".".join(map(str, sys.version_info[:2]))
    return Cause(
        "architecture",
        f"{found.group('file')} is a wheel for another Python or CPU than this device's: Python "
        f"{python} on {platform.machine()}. For that one take "
        f"{releases.requirement('onnxruntime')} (or another package's release that fits).",
    )


def _memory(found: Match[str]) -> Cause:
    return Cause(
        "memory",
        f"the device ran out of memory ({found.group(0)}). Use a smaller batch, a smaller or int8 "
        "model, or stop other programs.",
    )


def _full(found: Match[str]) -> Cause:
    return Cause(
        "disk",
        "the disk of the device is full (no space left on it). Make room there, or give another "
        "folder (edgekd device add --folder).",
    )


def _read_only(found: Match[str]) -> Cause:
    return Cause(
        "disk",
        "the device's file system is read-only. A memory card that fails turns read-only by "
        "itself: look at dmesg there; or give a folder on another disk (edgekd device add "
        "--folder).",
    )


class _Known(NamedTuple):
    pattern: str
    explain: Callable[[Match[str]], Cause]


def _first(known: Sequence[_Known], text: str) -> Optional[Cause]:
    for pattern, explain in known:
        found = re.search(pattern, text)
        if found:
            return explain(found)
    return None


IMPORTS = (
    _Known(r"No module named '([\w.]+)'", _module),
    _Known(r"version [`'](GLIBC(?:XX)?_[\d.]+)' not found", _glibc),
    _Known(r"(?P<file>[\w./+-]+): wrong ELF class", _wrong_machine),
    _Known(r"(?P<file>[\w./+-]+): cannot open shared object file: Exec format", _wrong_machine),
    _Known(r"Exec format error: '?(?P<file>[\w./+-]+)", _wrong_machine),
    _Known(r"(?P<file>[\w./+-]+): (?:invalid ELF header|file too short|ELF load com)", _damaged),
    _Known(r"(?P<file>[\w./+-]+\.so[\w.]*): cannot open shared object file", _library),
)
SYSTEM = (
    _Known(r"(?P<file>[\w.+-]+\.whl) is not a supported wheel", _wheel),
    _Known(r"No space left on device", _full),
    _Known(r"Read-only file system", _read_only),
    _Known(
        r"MemoryError|std::bad_alloc|(?:[Cc]annot|[Ff]ailed to) allocate memory|OUT_OF_MEMORY",
        _memory,
    ),
)
