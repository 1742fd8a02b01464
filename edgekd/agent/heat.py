"""Heat, and what a device does against it: temperatures, trip points, counters of slowdowns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Optional

from edgekd.agent.system import ask, integer, read

THERMAL = "sys/class/thermal"
SLOWING = re.compile(r"cpufreq|devfreq|throttle-alert|^Processor$")
"""Cooling devices that cost speed: the kernel's own, NVIDIA's alerts, ACPI's; fans do not."""
TRIPS = ("passive", "hot")
"""Kinds of trip points from which on a device is slowed down."""


def temperatures(root: Path) -> Optional[Dict[str, float]]:
    """Degrees Celsius by zone."""
    found = {}
    for zone in _zones(root):
        millidegrees = integer(zone / "temp")
        if millidegrees is not None:
            found[_name(zone)] = millidegrees / 1000
    return found or None


def trip_points(root: Path) -> Optional[Dict[str, float]]:
    """The lowest temperature at which a zone slows the device down, by zone."""
    found: Dict[str, float] = {}
    for zone in _zones(root):
        kinds = sorted(zone.glob("trip_point_[0-9]*_type"))
        files = [file for file in kinds if read(file) in TRIPS]
        points = [integer(file.with_name(file.name.replace("_type", "_temp"))) for file in files]
        real = [point for point in points if point is not None and point > 0]
        if real:
            found[_name(zone)] = min(real) / 1000
    return found or None


def slowdowns(root: Path) -> Optional[List[str]]:
    """What the kernel holds back against heat at this moment; None where it does not say."""
    devices = sorted((root / THERMAL).glob("cooling_device*"))
    states: Dict[str, int] = {}
    for device in devices:
        kind, state = read(device / "type") or "", integer(device / "cur_state")
        if state is not None and SLOWING.search(kind):
            states[f"{kind} ({device.name})" if kind == "Processor" else kind] = state
    return [kind for kind, state in states.items() if state > 0] if states else None


def stops(root: Path) -> Optional[int]:
    """How often an Intel CPU slowed down for its heat since the start, all packages together."""
    files = (root / "sys/devices/system/cpu").glob(
        "cpu[0-9]*/thermal_throttle/package_throttle_count"
    )
    counts: Dict[str, int] = {}
    for file in files:  # every core of a package tells the package's count
        package = read(file.parents[1] / "topology/physical_package_id") or "0"
        counts[package] = max(integer(file) or 0, counts.get(package, 0))
    return sum(counts.values()) if counts else None


def pi_bits() -> Optional[int]:
    """Raspberry Pi's throttle bits: below 16 what is now, above what was since the start."""
    found = re.search(r"throttled=(0x[0-9a-fA-F]+)", ask("vcgencmd", "get_throttled") or "")
    return int(found.group(1), 16) if found else None


def _zones(root: Path) -> List[Path]:
    return sorted((root / THERMAL).glob("thermal_zone*"))


def _name(zone: Path) -> str:
    return read(zone / "type") or zone.name
