"""Intel's and AMD's energy counters of a CPU package (RAPL), through Linux' powercap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from edgekd.agent.failures import AgentError
from edgekd.agent.system import integer, read

__all__ = ["Rapl"]

FOLDER = "sys/class/powercap"
ZONES = "*-rapl:[0-9]*"


@dataclass
class _Zone:
    """One package's counter; it starts again at zero when it is full."""

    folder: Path
    full_uj: int
    last_uj: int
    passed_uj: int = 0

    def advance(self) -> Optional[int]:
        """Microjoules since the first reading; right if read more than once in a turn."""
        now = integer(self.folder / "energy_uj")
        if now is None:
            return None
        step = now - self.last_uj
        self.passed_uj += step if step >= 0 else step + self.full_uj
        self.last_uj = now
        return self.passed_uj


@dataclass
class Rapl:
    """The sum over the packages: the CPU without its board, disks and supply."""

    name: str
    note: str
    zones: List[_Zone]
    scope: str = "rail"
    counts: bool = True
    period_s: float = 0.5  # it counts by itself; a turn takes minutes

    @classmethod
    def find(cls, root: Path) -> Optional[Rapl]:
        """The packages' counters.

        Raises:
            AgentError: they are there, and only root may read them (Linux since 5.10, as they
                leak what a program computes: CVE-2020-8694).
        """
        found = sorted((root / FOLDER).glob(ZONES))
        folders = [folder for folder in found if _is_package(folder)]
        if not folders:
            return None
        zones, names = [], []
        for folder in folders:
            now, full = integer(folder / "energy_uj"), integer(folder / "max_energy_range_uj")
            if now is None or not full:
                raise AgentError("meter", _refusal(folder / "energy_uj"))
            zones.append(_Zone(folder, full, now))
            names.append(read(folder / "name") or folder.name)
        parts = " + ".join(names)
        return cls(f"rapl {parts}", f"the CPU's own counters ({parts})", zones)

    def read(self) -> Optional[float]:
        parts = [zone.advance() for zone in self.zones]
        known = [part for part in parts if part is not None]
        return sum(known) / 1e6 if len(known) == len(parts) else None

    def close(self) -> None:
        """Nothing is held open."""


def _is_package(folder: Path) -> bool:
    """Not core or dram, which are parts of a package; nor psys, of which packages are a part."""
    return (read(folder / "name") or "").startswith("package") and (folder / "energy_uj").exists()


def _refusal(file: Path) -> str:
    return (
        f"the meter rapl cannot be read: {file} is root's alone. Allow it until the next start: "
        f"sudo chmod a+r {file.parent.parent}/*-rapl:*/energy_uj; or for good with a udev rule: "
        'SUBSYSTEM=="powercap", RUN+="/bin/chmod a+r /sys%p/energy_uj".'
    )
