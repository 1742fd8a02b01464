"""Which release of a package runs on a device's Python and CPU, for advice that can be followed."""

from __future__ import annotations

import sys
from typing import Optional, Tuple

NEWEST = {  # package -> Python -> the last release with wheels for it on PyPI, November 2026
    "onnxruntime": {(3, 8): "1.19.2", (3, 9): "1.19.2", (3, 10): "1.23.2"},
    "numpy": {(3, 8): "1.24.4", (3, 9): "2.0.2", (3, 10): "2.2.6"},
}
"""For a Python that is not named, the newest of all. aarch64 and x86-64 have the same."""
OLDEST = (3, 8)
NO_DOT_PRODUCT = ("Cortex-A53", "Cortex-A57", "Cortex-A72", "Cortex-A73", "Cortex-A35")
"""Arm cores of the first 64-bit generation, which lack instructions of the second."""
KNOWN = (
    "onnxruntime 1.21 from PyPI dies so on Cortex-A72, as in a Raspberry Pi 4 "
    "(microsoft/onnxruntime#23957, #24112, #24512); 1.20 runs there, and 1.22 has the repair "
    "(#23978). "
)


def requirement(package: str, python: Optional[Tuple[int, int]] = None) -> str:
    """What to tell pip: ``onnxruntime==1.19.2`` where the newest does not run on this Python.

    Args:
        package: its name on PyPI.
        python: the Python's version; that of this process by default.
    """
    newest = NEWEST.get(package, {}).get(python or sys.version_info[:2])
    return f"{package}=={newest}" if newest else package


def how_to_install(package: str, python: str, machine: str, tegra: bool) -> str:
    """Where to get a package that is not there.

    Args:
        package: its name on PyPI.
        python: the interpreter that is to have it.
        machine: the kind of CPU.
        tegra: whether the device is one of NVIDIA's Jetsons.
    """
    if package == "tensorrt" and tegra:
        return "It comes with JetPack: sudo apt install python3-libnvinfer; do not pip install it."
    if package == "onnxruntime-gpu" and machine != "x86_64":
        return f"PyPI has none for {machine}. Use TensorRT on its GPU (--runtime trt)."
    return f"Install it: {python} -m pip install '{requirement(package)}'"


def executable(runtime: str, cpu: str) -> str:
    """Where to get a build of a runtime that a CPU can execute.

    Args:
        runtime: ``ort``, ``openvino``, ``trt``, or whatever was tried.
        cpu: its name.
    """
    if runtime in ("ort", "onnxruntime"):
        known = KNOWN if any(core in cpu for core in NO_DOT_PRODUCT) else ""
        return (
            f"{known}Install another release on the device: {sys.executable} -m pip install "
            "'onnxruntime!=1.21.*'; if that one dies too, 'onnxruntime<1.21'."
        )
    if runtime == "openvino":
        return (
            f"Install another release on the device ({sys.executable} -m pip install "
            "'openvino==...'), or use --runtime ort."
        )
    if runtime in ("trt", "trtexec", "tensorrt"):
        return "Install the TensorRT that was made for this device; on a Jetson, JetPack's."
    return "Install a build that was made for this device."
