"""Targets: what a device takes, and hence which file is written for it.

A device profile, ``profiles/devices/NAME.toml``, says so in its ``[export]`` section; of a device
without one, what is detected decides.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from edgekd.strict import check_ranges, one_of

FLAVOURS = ("vnni", "avx2", "arm64", "tensorrt", "tensorrt8")
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Target:
    """What a device takes."""

    name: str = "local"
    runtime: str = "ort"
    """``ort``, ``openvino`` or ``trt``."""
    opset: int = 18
    """ONNX operator set that is written for it where nothing else is asked."""
    opsets: tuple[int, int] = (13, 23)
    """The lowest and the highest that its runtime reads."""
    flavour: str = "vnni"
    """How int8 is written: ``vnni`` (x86 with VNNI), ``avx2`` (x86 without), ``arm64``,
    ``tensorrt`` (10 and newer) or ``tensorrt8``."""
    precisions: tuple[str, ...] = ("fp32", "int8")
    """What ``--precision auto`` tries: fp16 only where the hardware computes it."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            runtime=one_of("ort", "openvino", "trt"),
            flavour=one_of(*FLAVOURS),
            precisions=(
                lambda found: "fp32" in found and set(found) <= set(PRECISIONS),
                f"fp32 and others of {', '.join(PRECISIONS)}",
            ),
            opsets=(lambda pair: pair[0] <= pair[1], "the lowest, then the highest"),
        )


def flavour_of(machine: str, cpu_flags: Collection[str]) -> str:
    """How int8 is best written for a CPU.

    Args:
        machine: as ``uname -m`` calls it.
        cpu_flags: as ``/proc/cpuinfo`` lists them.
    """
    if machine.lower() in ("aarch64", "arm64", "armv7l"):
        return "arm64"
    return "vnni" if {"avx512_vnni", "avx_vnni"} & set(cpu_flags) else "avx2"
