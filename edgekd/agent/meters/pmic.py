"""The Raspberry Pi 5's power chip, through the firmware's ``vcgencmd pmic_read_adc``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional

from edgekd.agent.system import ask

__all__ = ["Pmic"]

COMMAND = ("vcgencmd", "pmic_read_adc")
LINE = re.compile(r"(\w+)_([AV])(?:\s+\w+\(\d+\))?\s*=\s*(\d+(?:\.\d+)?)[AV]")


@dataclass(frozen=True)
class Pmic:
    """The sum over the rails that have both a voltage and a current.

    What is fed from the 5 V input beside the chip (USB, HATs, the fan) and what the chip itself
    turns into heat is not in it; the input has a voltage (EXT5V_V) and no current.
    """

    name: str
    note: str
    scope: str = "rail"
    counts: bool = False
    period_s: float = 0.5  # a process for each reading

    @classmethod
    def find(cls, root: Path) -> Optional[Pmic]:
        """The chip; boards before the Pi 5 have none, and their firmware says so."""
        rails = _rails(ask(*COMMAND) or "")
        if not rails:
            return None
        note = f"the sum of {len(rails)} rails behind the power chip; without USB, HATs and fan"
        return cls("pmic", note)

    def read(self) -> Optional[float]:
        rails = _rails(ask(*COMMAND) or "")
        return sum(rails.values()) if rails else None

    def close(self) -> None:
        """Nothing is held open."""


def _rails(said: str) -> Dict[str, float]:
    """Watts by rail; lines are as ``VDD_CORE_A current(7)=1.7A``, ``VDD_CORE_V volt(15)=0.8V``."""
    amperes: Dict[str, float] = {}
    volts: Dict[str, float] = {}
    for rail, unit, value in LINE.findall(said):
        (amperes if unit == "A" else volts)[rail] = float(value)
    return {rail: amperes[rail] * volts[rail] for rail in sorted(set(amperes) & set(volts))}
