"""Checkup: what this machine has for edgekd, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NEEDED = (
    "torch",
    "torchvision",
    "timm",
    "accelerate",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "safetensors",
    "scikit-learn",
    "plotly",
)
FREE_GB = 2


@dataclass(frozen=True)
class Check:
    """One fact, and whether it is as it should be."""

    name: str
    found: str
    ok: bool = True
    optional: bool = False
    advice: str = ""


def checkup() -> list[Check]:
    """Look at Python, packages, processor, memory, disk and GPU; change nothing."""
    return [
        _python(),
        *(_package(name) for name in NEEDED),
        _processor(),
        _disk(),
        _gpu(),
        _tensorrt(),
        Check("ssh", shutil.which("ssh") or "none", bool(shutil.which("ssh")), True, _SSH),
    ]


_SSH = "Install OpenSSH's client to reach other devices."


def _python() -> Check:
    found = f"{platform.python_version()} at {sys.prefix}"
    return Check("python", found, sys.version_info >= (3, 11), False, "edgekd needs 3.11 or newer.")


def _package(name: str) -> Check:
    try:
        return Check(name, version(name))
    except PackageNotFoundError:
        return Check(name, "none", False, False, f"pip install {name}")


def _processor() -> Check:
    found = f"{platform.machine()}, {os.cpu_count()} CPUs"
    try:
        from edgekd.trainer.precision import has_bf16
    except ImportError:  # of what is named above
        return Check("processor", found)
    bf16 = "bf16 in hardware" if has_bf16() else "bf16 only emulated, fp32 is used"
    return Check("processor", f"{found}, {bf16}")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return Check("disk", f"{free:.1f} GB free here", free > FREE_GB, False, "Free some space.")


def _gpu() -> Check:
    with suppress(ImportError):
        import torch

        if torch.cuda.is_available():
            return Check("GPU", torch.cuda.get_device_name(0))
    return Check("GPU", "none", False, True, "Not needed; training is faster with one.")


def _tensorrt() -> Check:
    try:
        return Check("tensorrt", version("tensorrt"))
    except PackageNotFoundError:
        advice = "Only to build engines on this machine: pip install 'edgekd[tensorrt]'"
        return Check("tensorrt", "none", False, True, advice)
