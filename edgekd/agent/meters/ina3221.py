"""The INA3221 of NVIDIA's Jetsons: volts and amperes of its rails, through Linux' hwmon."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

from edgekd.agent.failures import AgentError
from edgekd.agent.system import integer, read

__all__ = ["Ina3221"]

WHOLE = ("VDD_IN", "POM_5V_IN")
"""Labels of the rail that feeds the whole module."""
UNUSED = ("NC", "")
HWMON = "sys/class/hwmon"
OLD = "sys/bus/i2c/drivers/ina3221x"  # L4T 32, the last one for the Jetson Nano

_Rail = Tuple[str, Tuple[Path, ...]]
"""A label, and the files that multiply to its power: mV and mA, or mW alone."""


@dataclass(frozen=True)
class Ina3221:
    """The module's supply where it is metered, else the sum of the rails that are."""

    name: str
    scope: str
    note: str
    rails: Tuple[_Rail, ...]
    counts: bool = False
    period_s: float = 0.1

    @classmethod
    def find(cls, root: Path) -> Optional[Ina3221]:
        """The rails of all such chips.

        Raises:
            AgentError: there are some and none can be read.
        """
        rails = [rail for rail in _rails(root) + _old_rails(root) if rail[0] not in UNUSED]
        if not rails:
            return None
        answering = [rail for rail in rails if _watts(rail) is not None]
        if not answering:
            refused = " and ".join(str(file) for file in rails[0][1])
            raise AgentError(
                "meter",
                f"the meter ina3221 cannot be read: {refused} gave nothing. Allow it: "
                f"sudo chmod a+r {refused}",
            )
        whole = [rail for rail in answering if rail[0] in WHOLE][:1]
        chosen = whole or answering
        labels = " + ".join(label for label, _ in chosen)
        scope, note = ("board", "the module's supply") if whole else ("rail", "the sum of rails")
        return cls(f"ina3221 {labels}", scope, f"{note} ({labels})", tuple(chosen))

    def read(self) -> Optional[float]:
        parts = [_watts(rail) for rail in self.rails]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def close(self) -> None:
        """Nothing is held open."""


def _watts(rail: _Rail) -> Optional[float]:
    values = [integer(file) for file in rail[1]]
    known = [value for value in values if value is not None]
    if len(known) != len(values):
        return None
    return known[0] / 1e3 if len(known) == 1 else known[0] * known[1] / 1e6


def _rails(root: Path) -> List[_Rail]:
    """Channel n of a chip has in<n>_label, in<n>_input (mV) and curr<n>_input (mA)."""
    found: List[_Rail] = []
    for chip in sorted((root / HWMON).glob("hwmon*")):
        if read(chip / "name") != "ina3221":
            continue
        for file in sorted(chip.glob("in[0-9]*_label")):
            number = re.sub(r"\D", "", file.name)
            volts, amperes = chip / f"in{number}_input", chip / f"curr{number}_input"
            if amperes.exists():  # the channels after the third are the shunts' voltages
                found.append((read(file) or "", (volts, amperes)))
    return found


def _old_rails(root: Path) -> List[_Rail]:
    """Before hwmon: rail_name_<n> and in_power<n>_input (mW) of an iio device."""
    return [
        (read(file) or "", (file.with_name(f"in_power{file.name[-1]}_input"),))
        for file in sorted((root / OLD).glob("*/iio:device*/rail_name_[0-9]"))
    ]
