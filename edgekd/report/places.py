"""Where a measurement was taken and by which clock: what must be told apart, and how it is called.

A device is one column whatever models ran on it, and two boards of a kind are two: hence it is told
apart by the name it was asked for, not by what hardware it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgekd.report import text
from edgekd.report.view import RunView, dig

CLOCKS = {
    "inference": "host memory in, host memory out",
    "end_to_end": "encoded image in, class out",
    "compute": "the device's own events, without transfers",
}
"""What each clock sees; times of two clocks never stand in one column or on one axis."""
LOCAL = "local"

Record = Mapping[str, Any]


def place(record: Record) -> str:
    """The name of the device that a record was measured on."""
    return str(dig(record, "device", "profile") or "")


def hardware(record: Record) -> str:
    """Board and processor as a person would call them, without their trade marks."""
    keys = ["soc", "cpu"]
    if not str(dig(record, "runtime", "provider") or "CPU").startswith("CPU"):
        keys = ["soc", "gpu"]
    found = [str(name) for key in keys if (name := dig(record, "device", key))]
    tidy = (re.sub(r"\((R|TM)\)|\s+CPU(?=\s|$)|\s*@.*", "", name).strip() for name in found)
    return ", ".join(filter(None, tidy))


def device_name(record: Record) -> str:
    """``pi5 (Raspberry Pi 5 Model B Rev 1.0, Cortex-A76)``; of this machine the hardware alone."""
    name, board = place(record), hardware(record)
    if name in ("", LOCAL) or not board:
        return board or name
    return f"{name} ({board})"


def runtime_name(runtime: Any) -> str:
    """Runtime and version, and the provider that ran the nodes."""
    words = [str(word) for key in ("name", "version") if (word := dig(runtime, key))]
    provider = dig(runtime, "provider")
    return " ".join(words) + (f", {provider}" if provider else "")


def places(view: RunView) -> list[str]:
    """Every device once: those that answered, then those that only failed."""
    found = [place(record) for record in view.records]
    found += [failed_place(entry) for entry in view.failures]
    return list(dict.fromkeys(found))


def failed_place(entry: Record) -> str:
    return str(dig(entry, "failure", "device") or "")


def clock(record: Record) -> str:
    """The clock of a record; empty where it does not say."""
    found = dig(record, "policy", "clock")
    return found if isinstance(found, str) else ""


def clock_name(name: str) -> str:
    """``inference clock``."""
    return f"{text.plain(name, 40).replace('_', '-')} clock" if name else "unknown clock"


def clock_words(name: str) -> str:
    """``inference clock: host memory in, host memory out``."""
    return f"{clock_name(name)}: {CLOCKS[name]}" if name in CLOCKS else clock_name(name)


def sentence(words: str) -> str:
    """With a capital letter in front."""
    return words[:1].upper() + words[1:]


def clock_rank(name: str) -> int:
    order = list(CLOCKS)
    return order.index(name) if name in CLOCKS else len(order)


def by_clock(records: Iterable[Record]) -> list[tuple[str, list[Record]]]:
    """The records of each clock, the usual clock first."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(clock(record), []).append(record)
    return sorted(groups.items(), key=lambda group: clock_rank(group[0]))


def anchor(name: str, index: int) -> str:
    """The name of a table or figure of which there may be several: ``results``, ``results-2``."""
    return name if index == 0 else f"{name}-{index + 1}"


def on(names: Sequence[str], name: str) -> str:
    """`` on pi5`` where there are several devices to tell apart, else nothing."""
    return f" on {text.plain(name, 60)}" if len(names) > 1 and name else ""
