"""Wheels for another machine's Python: fetched here, by pip, where there is internet."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.errors import DeviceError, UsageError

PATIENCE_S = 900.0  # 44 MB of wheels over a slow line
OLDEST_GLIBC = 17  # 2.17: that of the oldest wheels there are
MACHINES = ("aarch64", "x86_64")


@dataclass(frozen=True)
class There:
    """The Python that wheels are for."""

    python: str
    """Such as ``3.11``."""
    machine: str
    """As ``uname -m`` calls it."""
    bits: int
    glibc: str
    """Such as ``2.36``; empty where the C library is another one."""

    @classmethod
    def of(cls, survey: Mapping[str, Any]) -> There:
        """The Python that the agent ran on."""
        python = ".".join(str(survey["python"]).split(".")[:2])
        return cls(python, str(survey["machine"]), int(survey["bits"]), survey["glibc"] or "")


def download(there: There, folder: Path, *, tensorrt: bool = False) -> list[Path]:
    """Fetch numpy, ONNX Runtime and Pillow for a device.

    ONNX Runtime names more packages than ``import onnxruntime`` needs, so nothing else is fetched.

    Args:
        there: the device's Python.
        folder: where the wheels go.
        tensorrt: whether TensorRT's Python bindings have to get on with this numpy.

    Raises:
        DeviceError: there are no wheels for such a device.
        UsageError: they could not be fetched.
    """
    argv = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"),
        *("--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp"),
        f"--python-version={there.python}",
        *(f"--platform={tag}" for tag in platforms(there)),
        f"--dest={folder}",
        *requirements(there, tensorrt=tensorrt),
    ]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"the packages were not there after {PATIENCE_S:g} s. See to this machine's network."
        ) from None
    if done.returncode != 0:
        raise _refusal(there, done.stderr or done.stdout)
    return sorted(folder.glob("*.whl"))


def platforms(there: There) -> list[str]:
    """The platform tags of wheels that run there, newest first.

    Raises:
        DeviceError: nobody makes wheels of ONNX Runtime for it.
    """
    if there.bits != 64:
        raise DeviceError(
            f"its Python is one of {there.bits} bits, and there is no ONNX Runtime for such a "
            "system (microsoft/onnxruntime#24511). Install the 64-bit system; on a Raspberry Pi, "
            "Raspberry Pi OS (64-bit)."
        )
    version = re.fullmatch(r"2\.(\d{1,3})", there.glibc)
    if there.machine not in MACHINES or version is None:
        raise DeviceError(
            f"there are no wheels of ONNX Runtime for {there.machine} with "
            f"{'glibc ' + there.glibc if there.glibc else 'a C library that is not glibc'}; "
            f"expected {' or '.join(MACHINES)} with glibc. Build it on the device, and add the "
            "device with --python."
        )
    newest = int(version[1])
    tags = [f"manylinux_2_{minor}" for minor in range(newest, OLDEST_GLIBC - 1, -1)]
    return [f"{tag}_{there.machine}" for tag in (*tags, "manylinux2014")]


def requirements(there: There, *, tensorrt: bool = False) -> list[str]:
    """What is fetched: pip takes the newest release that runs there."""
    # TensorRT 8.5, which comes with Python 3.8, names np.bool; numpy 1.24 has none (#2557 there).
    old = tensorrt and there.python == "3.8"
    return ["numpy<1.24" if old else "numpy", "onnxruntime!=1.21.*", "pillow"]


def _refusal(there: There, said: str) -> UsageError:
    said = said.strip()[-400:]
    if "No module named pip" in said:
        return UsageError(
            f"{sys.executable} has no pip to fetch the packages with. Install it: "
            f"{sys.executable} -m ensurepip"
        )
    return UsageError(
        f"the packages for Python {there.python} on {there.machine} could not be fetched here. See "
        f"that this machine has internet and that ONNX Runtime is made for that Python. pip said: "
        f"{said or 'nothing'}"
    )
