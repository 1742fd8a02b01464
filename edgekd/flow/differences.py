"""Differences between two measurements of one artifact: its answers, its speed, its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from edgekd.flow.proving import Logits, Proof

ACCEPTED = 0.05
"""Of a time: two measurements in two processes are the same if they are as close as this."""
MORE_MEMORY = 0.10
MORE_BYTES = 8_000_000
ROUNDING = {"fp32": 1e-3, "fp64": 1e-3, "fp16": 1e-2, "bf16": 1e-1}
"""How far a logit may move, as a share of the largest: another release of a runtime adds in
another order, and half precision keeps 3 digits less (11 bits and 8 bits against 24). Of an int8
file nothing is said: one step of its rounding is already more, so only its classes count."""


@dataclass(frozen=True)
class Figure:
    """A number then and now."""

    name: str
    unit: str
    old: float | None
    now: float | None
    word: str
    """``same``, ``faster``, ``slower``, ``more``, ``less``, ``n/a`` where one is not known, or
    empty where nothing is claimed of it."""

    @property
    def change(self) -> float | None:
        """As a share of the old one."""
        return self.now / self.old - 1 if self.old and self.now is not None else None


@dataclass(frozen=True)
class Answers:
    """How far the answers are those of the proof."""

    feeds: int
    """Timed inputs whose logits were compared; 0 where the proof has none."""
    other_classes: int
    """Those of them whose class is another one."""
    furthest: float | None
    """The largest move of a logit as a share of the largest logit; None if nothing was compared or
    logits are not numbers."""
    moved: bool
    """Whether that is more than rounding."""
    images: int
    """Images whose predictions were compared; 0 where the proof has none."""
    different: int
    """Those of them that are another class now."""

    @property
    def differ(self) -> bool:
        return self.moved or self.other_classes > 0 or self.different > 0


@dataclass(frozen=True)
class Condition:
    """Something that was different when the proof was made."""

    name: str
    old: Any
    now: Any


def median(old: Mapping[str, Any], now: Mapping[str, Any]) -> Figure:
    """Of undisturbed runs where both have one: a neighbour on the machine is nobody's slowness."""
    names = ("median_undisturbed", "median")
    known = [n for n in names if all(r["timing"][n]["value"] is not None for r in (old, now))]
    return duration(known[0] if known else "median", old, now)


def duration(name: str, old: Mapping[str, Any], now: Mapping[str, Any]) -> Figure:
    """Slower or faster only beyond 5 % and where the two 95 % intervals are apart."""
    before, after = old["timing"][name], now["timing"][name]
    ends = [before["value"], before["lo"], before["hi"], after["value"], after["lo"], after["hi"]]
    title = name.replace("_", ", ")
    if None in ends:
        return Figure(title, "ms", before["value"], after["value"], "n/a")
    word = "same"
    if after["value"] > before["value"] * (1 + ACCEPTED) and after["lo"] > before["hi"]:
        word = "slower"
    elif after["value"] < before["value"] * (1 - ACCEPTED) and after["hi"] < before["lo"]:
        word = "faster"
    return Figure(title, "ms", before["value"], after["value"], word)


def shown(name: str, old: Mapping[str, Any], now: Mapping[str, Any]) -> Figure:
    """Only the figures: a tail is a matter of who else ran, and two of them judge no model."""
    before, after = old["timing"][name]["value"], now["timing"][name]["value"]
    return Figure(name, "ms", before, after, "n/a" if None in (before, after) else "")


def memory(old: Mapping[str, Any], now: Mapping[str, Any]) -> Figure:
    """The peak of the process's memory; a few MB are the interpreter's own."""
    before, after = old["memory"]["peak_rss_bytes"], now["memory"]["peak_rss_bytes"]
    word = "n/a"
    if before is not None and after is not None:
        counts = abs(after - before) > max(MORE_MEMORY * before, MORE_BYTES)
        word = ("more" if after > before else "less") if counts else "same"
    return Figure("peak memory", "B", before, after, word)


def answers(old: Proof, now: Proof) -> Answers:
    """Compare logits and predictions where both have them."""
    given = old.answers is not None and now.answers is not None
    pairs = list(zip_longest(old.answers or (), now.answers or (), fillvalue=())) if given else []
    moves = [_moved(*pair) for pair in pairs]
    known = [move for move in moves if move is not None]
    rounding = ROUNDING.get(str(old.record["artifact"]["precision_found"]))
    chosen = list(zip(old.predictions or (), now.predictions or (), strict=False))
    return Answers(
        feeds=len(pairs),
        other_classes=sum(_best(a) != _best(b) for a, b in pairs),
        furthest=max(known) if known and len(known) == len(moves) else None,
        moved=len(known) < len(moves)
        or (rounding is not None and max(known, default=0) > rounding),
        images=len(chosen),
        different=sum(a != b for a, b in chosen),
    )


def conditions(old: Mapping[str, Any], now: Mapping[str, Any]) -> list[Condition]:
    """What else is not as it was: the first places to look for the cause."""
    pairs = [(name, old[section][key], now[section][key]) for name, section, key in _CONDITIONS]
    pairs.append(("edgekd", old["edgekd_version"], now["edgekd_version"]))
    return [Condition(name, before, after) for name, before, after in pairs if before != after]


_CONDITIONS = (
    ("runtime", "runtime", "name"),
    ("runtime version", "runtime", "version"),
    ("provider", "runtime", "provider"),
    ("OS", "device", "os"),
    ("kernel", "device", "kernel"),
    ("SoC", "device", "soc"),
    ("CPU", "device", "cpu"),
    ("GPU", "device", "gpu"),
    ("governor", "device", "governor"),
    ("power mode", "device", "power_mode"),
    ("threads", "policy", "threads"),
    ("CPUs", "policy", "affinity"),
)


def _moved(old: Logits, now: Logits) -> float | None:
    """The largest move as a share of the largest logit; None where they cannot be compared."""
    if len(old) != len(now) or [x is None for x in old] != [x is None for x in now]:
        return None
    pairs = [(a, b) for a, b in zip(old, now, strict=True) if a is not None and b is not None]
    largest = max((abs(a) for a, _ in pairs), default=0.0)
    furthest = max((abs(a - b) for a, b in pairs), default=0.0)
    return furthest / largest if largest else furthest


def _best(logits: Sequence[float | None]) -> int:
    known = [float("-inf") if value is None else value for value in logits]
    return known.index(max(known)) if known else -1
