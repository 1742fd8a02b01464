"""What a device is and how it is doing; every probe copes with absence and changes nothing."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from edgekd.agent import cgroups, gpus, heat
from edgekd.agent.cores import (
    affinity,
    clusters,
    cpu_flags,
    cpu_model,
    frequencies,
    governor,
    physical_cores,
)
from edgekd.agent.system import ask, integer, read
from edgekd.agent.throttling import throttling, warnings

__all__ = [
    "affinity",
    "clusters",
    "cpu_flags",
    "cpu_model",
    "describe",
    "free_bytes",
    "moment",
    "peak_rss_bytes",
    "physical_cores",
    "throttling",
    "warnings",
]

ROOT = Path("/")


def describe(root: Path = ROOT) -> Dict[str, Any]:
    """What does not change while a model runs."""
    return {
        "soc": _soc(root),
        "cpu": cpu_model(root),
        "cpu_flags": cpu_flags(root),
        "gpu": _gpu(root),
        "ram_bytes": _meminfo(root).get("MemTotal"),
        "os": _os_name(root),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "power_mode": _nvpmodel(),
        "governor": governor(root),
        "physical_cores": physical_cores(root),
        "affinity": affinity(),
        "core_max_khz": frequencies(root, "cpuinfo_max_freq"),
        "clusters": clusters(root),
        "cpu_limit": cgroups.cpu_limit(root),
        "container": cgroups.container(root),
    }


def moment(root: Path = ROOT, with_gpus: bool = False) -> Dict[str, Any]:
    """What does: taken before, during and after.

    Args:
        root: of the file system.
        with_gpus: whether to ask graphics cards too, which takes a process and its time.
    """
    return {
        "load_average": _load_average(),
        "free_bytes": free_bytes(root),
        "core_khz": frequencies(root, "scaling_cur_freq"),
        "devfreq": _devfreq(root),
        "temperature_c": heat.temperatures(root),
        "trip_c": heat.trip_points(root),
        "slowed_by": heat.slowdowns(root),
        "heat_stops": heat.stops(root),
        "quota_stops": cgroups.quota_stops(root),
        "throttle_bits": heat.pi_bits(),
        "gpus": gpus.read() if with_gpus else None,
    }


def free_bytes(root: Path = ROOT) -> Optional[int]:
    """Memory that a program could still get."""
    return _meminfo(root).get("MemAvailable")


def peak_rss_bytes(root: Path = ROOT) -> Optional[int]:
    """The most memory this process ever held, from the system's own count."""
    kib = re.search(r"^VmHWM:\s*(\d+) kB", read(root / "proc/self/status") or "", re.MULTILINE)
    if kib:
        return int(kib.group(1)) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _meminfo(root: Path) -> Dict[str, int]:
    found = re.findall(r"^(\w+):\s*(\d+) kB", read(root / "proc/meminfo") or "", re.MULTILINE)
    return {name: int(kib) * 1024 for name, kib in found}


def _load_average() -> Optional[List[float]]:
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except (OSError, AttributeError):
        return None


def _soc(root: Path) -> Optional[str]:
    return read(root / "proc/device-tree/model") or read(
        root / "sys/devices/virtual/dmi/id/product_name"
    )


def _gpu(root: Path) -> Optional[str]:
    for file in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        name = re.search(r"^Model:\s*(.+)$", read(file) or "", re.MULTILINE)
        if name:
            return name.group(1).strip()
    return "NVIDIA Tegra (integrated)" if (root / "etc/nv_tegra_release").exists() else None


def _os_name(root: Path) -> str:
    name = re.search(r'^PRETTY_NAME="?([^"\n]+)', read(root / "etc/os-release") or "", re.MULTILINE)
    return name.group(1) if name else platform.system()


def _devfreq(root: Path) -> Optional[Dict[str, Dict[str, Optional[int]]]]:
    """Clocks beside the CPU's, such as a Jetson's GPU (``17000000.gpu``) or a Rockchip's NPU."""
    found = {}
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        now, most = integer(folder / "cur_freq"), integer(folder / "max_freq")
        if now is not None:  # the kernel counts these in Hz
            most_khz = None if most is None else most // 1000
            found[folder.name] = {"khz": now // 1000, "max_khz": most_khz}
    return found or None


def _nvpmodel() -> Optional[str]:
    """Jetson's power mode, such as ``MAXN`` or ``15W``."""
    found = re.search(r"NV Power Mode:\s*(\S+)", ask("nvpmodel", "-q") or "")
    return found.group(1) if found else None
