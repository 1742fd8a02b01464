"""What a device is and how it is doing; every probe copes with absence and changes nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

from edgekd.agent import cgroups
from edgekd.agent.cgroups import read as _read

ROOT = Path("/")
ARM_PARTS = {
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72", "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1", "0xd0d": "Cortex-A77", "0xd41": "Cortex-A78", "0xd42": "Cortex-A78AE",
    "0xd44": "Cortex-X1", "0xd46": "Cortex-A510", "0xd47": "Cortex-A710", "0xd4b": "Cortex-A78C",
}  # fmt: skip
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "asimddp", "i8mm")
"""CPU instructions that decide how int8 is best written; the last two are ARM's."""
PI_BITS = {
    0: "the voltage is too low",
    1: "the frequency is capped",
    2: "it is throttled",
    3: "it is near its temperature limit",
    16: "the voltage was too low since boot",
    17: "the frequency was capped since boot",
    18: "it was throttled since boot",
    19: "it was near its temperature limit since boot",
}


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
        "governor": _governor(root),
        "physical_cores": physical_cores(root),
        "affinity": affinity(),
        "core_max_khz": _cores(root, "cpuinfo_max_freq"),
        "cpu_limit": cgroups.cpu_limit(root),
        "container": cgroups.container(root),
    }


def moment(root: Path = ROOT) -> Dict[str, Any]:
    """What does: taken before, during and after."""
    return {
        "load_average": _load_average(),
        "free_bytes": _meminfo(root).get("MemAvailable"),
        "core_khz": _cores(root, "scaling_cur_freq"),
        "temperature_c": _temperatures(root),
        "quota_stops": cgroups.quota_stops(root),
        "throttle_bits": _vcgencmd(),
    }


def throttling(moments: List[Dict[str, Any]]) -> List[str]:
    """Sentences for what held the device back between the first moment and the last."""
    found = []
    stops = [m["quota_stops"] for m in moments if m.get("quota_stops") is not None]
    if stops and stops[-1] > stops[0]:
        found.append(f"the container's CPU quota stopped the process {stops[-1] - stops[0]} times")
    bits = 0
    for one in moments:
        bits |= one.get("throttle_bits") or 0
    return found + [text for bit, text in PI_BITS.items() if bit < 16 and bits >> bit & 1]


def warnings(device: Dict[str, Any], before: Dict[str, Any]) -> List[str]:
    """What the reader should know about the state the device was found in."""
    found = []
    load, cores = before.get("load_average"), device.get("physical_cores") or 1
    if load and load[0] > 0.5 * cores:
        found.append(f"load average {load[0]:.1f} on {cores} cores before the measurement")
    if device.get("governor") not in (None, "performance"):
        found.append(f"the CPU governor is {device['governor']}; nothing was changed")
    bits = before.get("throttle_bits") or 0
    return found + [text for bit, text in PI_BITS.items() if bits >> bit & 1]


def cpu_model(root: Path = ROOT) -> str:
    """The CPU's name; on ARM from its part numbers, as ``Cortex-A76`` or ``Cortex-A53 + ...``."""
    text = _read(root / "proc/cpuinfo") or ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    parts = sorted(set(re.findall(r"^CPU part\s*:\s*(0x\w+)", text, re.MULTILINE)))
    if parts:
        return " + ".join(ARM_PARTS.get(part, f"ARM part {part}") for part in parts)
    return name.group(1).strip() if name else platform.processor() or platform.machine()


def cpu_flags(root: Path = ROOT) -> List[str]:
    """Which of :data:`FLAGS` every core has."""
    text = _read(root / "proc/cpuinfo") or ""
    cores = re.findall(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    return [flag for flag in FLAGS if cores and all(flag in core.split() for core in cores)]


def affinity() -> List[int]:
    """The CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def physical_cores(root: Path = ROOT) -> int:
    """Cores this process may use; two hyper-threads of one core count once."""
    cores: Set[str] = set()
    for cpu in affinity():
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        cores.add(_read(folder / "thread_siblings_list") or str(cpu))
    return max(len(cores), 1)


def peak_rss_bytes(root: Path = ROOT) -> Optional[int]:
    """The most memory this process ever held, from the system's own count."""
    kib = re.search(r"^VmHWM:\s*(\d+) kB", _read(root / "proc/self/status") or "", re.MULTILINE)
    if kib:
        return int(kib.group(1)) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _output(*argv: str) -> Optional[str]:
    """What a program prints; None if there is no such program or it fails."""
    if shutil.which(argv[0]) is None:
        return None
    try:
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace")


def _meminfo(root: Path) -> Dict[str, int]:
    found = re.findall(r"^(\w+):\s*(\d+) kB", _read(root / "proc/meminfo") or "", re.MULTILINE)
    return {name: int(kib) * 1024 for name, kib in found}


def _load_average() -> Optional[List[float]]:
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except (OSError, AttributeError):
        return None


def _soc(root: Path) -> Optional[str]:
    return _read(root / "proc/device-tree/model") or _read(
        root / "sys/devices/virtual/dmi/id/product_name"
    )


def _gpu(root: Path) -> Optional[str]:
    for file in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        name = re.search(r"^Model:\s*(.+)$", _read(file) or "", re.MULTILINE)
        if name:
            return name.group(1).strip()
    return "NVIDIA Tegra (integrated)" if (root / "etc/nv_tegra_release").exists() else None


def _os_name(root: Path) -> str:
    name = re.search(
        r'^PRETTY_NAME="?([^"\n]+)', _read(root / "etc/os-release") or "", re.MULTILINE
    )
    return name.group(1) if name else platform.system()


def _per_core(root: Path, name: str) -> Dict[str, str]:
    folder = root / "sys/devices/system/cpu"
    files = sorted(folder.glob(f"cpu[0-9]*/cpufreq/{name}"), key=lambda f: int(f.parts[-3][3:]))
    return {file.parts[-3]: text for file in files for text in [_read(file)] if text}


def _cores(root: Path, name: str) -> Optional[List[int]]:
    values = [int(text) for text in _per_core(root, name).values() if text.isdigit()]
    return values or None


def _governor(root: Path) -> Optional[str]:
    return " + ".join(sorted(set(_per_core(root, "scaling_governor").values()))) or None


def _temperatures(root: Path) -> Optional[Dict[str, float]]:
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        text = _read(zone / "temp")
        if text and re.fullmatch(r"-?\d+", text):
            found[_read(zone / "type") or zone.name] = int(text) / 1000
    return found or None


def _vcgencmd() -> Optional[int]:
    """Raspberry Pi's throttle bits."""
    found = re.search(r"throttled=(0x[0-9a-fA-F]+)", _output("vcgencmd", "get_throttled") or "")
    return int(found.group(1), 16) if found else None


def _nvpmodel() -> Optional[str]:
    """Jetson's power mode, such as ``MAXN`` or ``15W``."""
    found = re.search(r"NV Power Mode:\s*(\S+)", _output("nvpmodel", "-q") or "")
    return found.group(1) if found else None
