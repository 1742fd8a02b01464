"""The task ``survey``: all that a doctor wants to know of a device, found without changing it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import struct
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from edgekd.agent import facts, meters, packages
from edgekd.agent.children import Stage
from edgekd.agent.system import read
from edgekd.agent.tensorrt import trtexec
from edgekd.agent.turns import holder

SCARCE_BYTES = 500 * 2**20
"""With less room than this, a virtual environment with a runtime does not fit."""


def survey(stage: Stage) -> Dict[str, Any]:
    """Look at everything.

    Returns:
        What :func:`python` says, and ``packages`` (:func:`edgekd.agent.packages.look`),
        ``trtexec`` (its path), ``disk_free_bytes``, ``writable`` (the agent's folder), ``meters``
        (name, scope and note of each), ``moment``, ``warnings``, ``lock`` (a sentence on who uses
        the device, or None) and ``uptime_s``.
    """
    folder = stage.path.resolve().parent
    device, now = dict(stage.device), facts.moment(with_gpus=True)
    found_packages, found_meters = packages.look(), meters.find()
    try:
        metered = [{"name": m.name, "scope": m.scope, "note": m.note} for m in found_meters.meters]
    finally:
        found_meters.close()
    free = _free_bytes(folder)
    return {
        **python(),
        "packages": found_packages,
        "trtexec": trtexec.find(),
        "disk_free_bytes": free,
        "writable": os.access(folder, os.W_OK),
        "meters": metered,
        "moment": now,
        "warnings": [
            *facts.warnings(device, now),
            *packages.doubts(found_packages),
            *found_meters.refusals,
            *_scarce(folder, free),
        ],
        "lock": holder(folder),
        "uptime_s": _uptime_s(),
    }


def python() -> Dict[str, Any]:
    """The interpreter that runs the agent, and what wheels have to be made for."""
    name, version = platform.libc_ver()
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "implementation": platform.python_implementation(),
        "glibc": version if name == "glibc" else None,
        "machine": platform.machine(),
        "bits": 8 * struct.calcsize("P"),  # a 32-bit Python may run on a 64-bit kernel
        "tag": "cp{}{}".format(*sys.version_info[:2]),
        "virtual": sys.prefix != sys.base_prefix,
        # Debian splits ensurepip off; an environment without pip needs venv alone
        "venv_possible": importlib.util.find_spec("venv") is not None,
        "ensurepip": importlib.util.find_spec("ensurepip") is not None,
    }


def _free_bytes(folder: Path) -> Optional[int]:
    try:
        return shutil.disk_usage(str(folder)).free
    except OSError:
        return None


def _scarce(folder: Path, free: Optional[int]) -> List[str]:
    if free is None or free >= SCARCE_BYTES:
        return []
    return [f"only {free / 1e6:.0f} MB are free on the disk of {folder}"]


def _uptime_s() -> Optional[float]:
    text = read(Path("/proc/uptime"))
    if text:
        return float(text.split()[0])
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return None if clock is None else time.clock_gettime(clock)
