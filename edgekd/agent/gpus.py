"""NVIDIA's graphics cards as ``nvidia-smi`` tells of them: clocks, power, heat, what slows them."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional

from edgekd.agent.system import ask

FIELDS = {  # of --query-gpu -> key, and what to multiply with
    "clocks.sm": ("sm_mhz", 1),
    "clocks.max.sm": ("sm_max_mhz", 1),
    "power.draw": ("power_w", 1),
    "temperature.gpu": ("temperature_c", 1),
    "memory.used": ("memory_used_bytes", 2**20),
    "memory.total": ("memory_total_bytes", 2**20),
}
REASONS = ("clocks_throttle_reasons.active", "clocks_event_reasons.active")
"""The mask of :data:`SLOWED`, by its name in older drivers and in newer ones."""
SLOWED = {  # nvml.h, nvmlClocksEventReason...; without idle and what the user set
    0x4: "its power limit",
    0x8: "a slowdown by the hardware",
    0x10: "clocks in step with another card's",
    0x20: "heat (the driver's limit)",
    0x40: "heat (the hardware's limit)",
    0x80: "a power brake from outside",
}


def read() -> Optional[List[Dict[str, Any]]]:
    """What each card says now; None where there is none, or no driver.

    A process is started for it, which takes 0.03 s where the driver is in use and over a second
    where it is not: do not ask while something is timed.
    """
    for reasons in REASONS:
        query = ",".join(["name", *FIELDS, reasons])
        said = ask("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits")
        cards = [_card(line) for line in (said or "").splitlines()]
        known = [card for card in cards if card is not None]
        if known:
            return known
    return None


def number(text: str) -> Optional[float]:
    """A figure as nvidia-smi prints it; None for ``[N/A]`` and ``[Not Supported]``."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*", text)
    return float(found.group(1)) if found else None


def _card(line: str) -> Optional[Dict[str, Any]]:
    name, *values = [part.strip() for part in line.split(",")]
    if len(values) != len(FIELDS) + 1:
        return None
    card: Dict[str, Any] = {"name": name}
    for (key, factor), value in zip(FIELDS.values(), values):
        found = number(value)
        whole = key.endswith(("_mhz", "_bytes"))
        card[key] = None if found is None else int(found * factor) if whole else found * factor
    mask = re.fullmatch(r"0x[0-9a-fA-F]+", values[-1])
    bits = int(mask.group(0), 16) if mask else 0
    card["slowed_by"] = [text for bit, text in SLOWED.items() if bits & bit] if mask else None
    return card
