"""The cores of a CPU: what they are called, what they can do, and how fast they go."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from edgekd.agent.system import integer, read

ROOT = Path("/")
CPUS = "sys/devices/system/cpu"
ARM_PARTS = {  # implementer 0x41 (Arm); Linux: arch/arm64/include/asm/cputype.h
    "0xc07": "Cortex-A7", "0xd01": "Cortex-A32", "0xd02": "Cortex-A34", "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1",
    "0xd0d": "Cortex-A77", "0xd41": "Cortex-A78", "0xd42": "Cortex-A78AE", "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510", "0xd47": "Cortex-A710", "0xd4b": "Cortex-A78C", "0xd4d": "Cortex-A715",
    "0xd80": "Cortex-A520", "0xd81": "Cortex-A720",
}  # fmt: skip
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "asimddp", "i8mm")
"""CPU instructions that decide how int8 is best written; the last two are ARM's."""
HYBRID = {"cpu_atom": "efficient", "cpu_core": "performance"}
"""Folders in which Linux lists the two kinds of cores of Intel's hybrid CPUs."""


def cpu_model(root: Path = ROOT) -> str:
    """The CPU's name; on ARM from its part numbers, as ``Cortex-A76`` or ``Cortex-A53 + ...``."""
    text = read(root / "proc/cpuinfo") or ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    parts = sorted(set(re.findall(r"^CPU part\s*:\s*(0x\w+)", text, re.MULTILINE)))
    if parts:
        return " + ".join(_part_name(part) for part in parts)
    return name.group(1).strip() if name else platform.processor() or platform.machine()


def cpu_flags(root: Path = ROOT) -> List[str]:
    """Which of :data:`FLAGS` every core has."""
    text = read(root / "proc/cpuinfo") or ""
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
        folder = root / f"{CPUS}/cpu{cpu}/topology"
        cores.add(read(folder / "thread_siblings_list") or str(cpu))
    return max(len(cores), 1)


def clusters(root: Path = ROOT) -> List[Dict[str, Any]]:
    """Groups of equal cores, the weakest first; more than one is a big.LITTLE or hybrid CPU.

    Each has ``cpus`` (numbers), ``part`` (a name or None), ``max_khz`` (or None) and ``capacity``
    (Linux' own measure of how much a core does, 1024 for the strongest; or None).
    """
    groups: Dict[Tuple[Any, ...], List[int]] = {}
    kinds, parts = _hybrid(root), _parts(root)
    for cpu in _numbers(root):
        folder = root / f"{CPUS}/cpu{cpu}"
        most, capacity = (integer(folder / name) for name in _STRENGTH)
        if cpu not in parts:  # x86: cores of one kind differ in their turbo, which makes no group
            most, capacity = None, None
        groups.setdefault((capacity, most, kinds.get(cpu) or parts.get(cpu)), []).append(cpu)
    found = [
        {"cpus": cpus, "part": part, "max_khz": most or _highest(root, cpus), "capacity": capacity}
        for (capacity, most, part), cpus in groups.items()
    ]
    return sorted(found, key=lambda one: (one["capacity"] or 0, one["max_khz"] or 0, one["cpus"]))


def governor(root: Path = ROOT) -> Optional[str]:
    """How the frequency is chosen: ``ondemand``, or several joined by ``+``."""
    return " + ".join(sorted(set(_per_core(root, "scaling_governor").values()))) or None


def frequencies(root: Path, name: str, cpus: Optional[Sequence[int]] = None) -> Optional[List[int]]:
    """A frequency of each core in kHz, by the cores' numbers.

    Args:
        root: of the file system.
        name: ``scaling_cur_freq`` or ``cpuinfo_max_freq``.
        cpus: only of these.
    """
    wanted = None if cpus is None else {f"cpu{cpu}" for cpu in cpus}
    found = _per_core(root, name).items()
    values = [int(text) for cpu, text in found if text.isdigit() and cpu in (wanted or {cpu})]
    return values or None


def _part_name(part: str) -> str:
    return ARM_PARTS.get(part, f"ARM part {part}")


def _numbers(root: Path) -> List[int]:
    found = (root / CPUS).glob("cpu[0-9]*")
    return sorted(int(folder.name[3:]) for folder in found if folder.name[3:].isdigit())


def _per_core(root: Path, name: str) -> Dict[str, str]:
    files = [root / f"{CPUS}/cpu{cpu}/cpufreq/{name}" for cpu in _numbers(root)]
    return {file.parts[-3]: text for file in files for text in [read(file)] if text}


def _parts(root: Path) -> Dict[int, str]:
    """The part of each core, from the blocks of /proc/cpuinfo; only ARM has them."""
    found = {}
    for block in (read(root / "proc/cpuinfo") or "").split("\n\n"):
        cpu = re.search(r"^processor\s*:\s*(\d+)", block, re.MULTILINE)
        part = re.search(r"^CPU part\s*:\s*(0x\w+)", block, re.MULTILINE)
        if cpu and part:
            found[int(cpu.group(1))] = _part_name(part.group(1))
    return found


def _hybrid(root: Path) -> Dict[int, str]:
    """The kind of each core of a hybrid x86 CPU."""
    found = {}
    for folder, kind in HYBRID.items():
        text = read(root / f"sys/devices/{folder}/cpus") or ""
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
            found.update(dict.fromkeys(range(int(first), int(last or first) + 1), kind))
    return found


def _highest(root: Path, cpus: List[int]) -> Optional[int]:
    found = [integer(root / f"{CPUS}/cpu{cpu}/{_STRENGTH[0]}") for cpu in cpus]
    return max((value for value in found if value is not None), default=None)


_STRENGTH = ("cpufreq/cpuinfo_max_freq", "cpu_capacity")
