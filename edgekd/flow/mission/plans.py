"""Plans and attempts: what is to be tried, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edgekd.budget import ACCURACY, Budget, Figure, Ruling

Rung = Literal["first", "precision", "smaller", "resolution", "other", "longer"]
State = Literal["holds", "fails", "open", "refused"]


@dataclass(frozen=True)
class Plan:
    """One thing to try: a student, how long it learns, and what is exported of it."""

    network: str
    size: int
    """Side of its input in pixels."""
    epochs: int
    precision: str
    """As ``export.precision``."""
    max_drop: float
    """As ``export.max_drop``: what fp16 and int8 may lose against the student's float network."""
    rung: Rung = "first"
    why: str = ""

    @property
    def key(self) -> str:
        """Of the student; safe as a folder's name: ``resnet20-32px-30ep``."""
        safe = "".join(c if c.isalnum() or c in "._" else "-" for c in self.network)
        return f"{safe}-{self.size}px-{self.epochs}ep"

    @property
    def student(self) -> tuple[str, int]:
        """The network and its size, however long it learns."""
        return self.network, self.size

    @property
    def asked(self) -> dict[str, Any]:
        """All that decides what comes out."""
        return {k: v for k, v in asdict(self).items() if k not in ("rung", "why")}


@dataclass(frozen=True)
class Other:
    """A precision that ``auto`` did not choose."""

    precision: str
    refused: str = ""
    """Why there is no file of it; empty where there is one."""
    ratio: float | None = None
    """Its time over that of fp32; 1 of fp32 itself."""
    size_bytes: int | None = None
    inaccurate: bool = False
    """Whether it was refused for what it loses."""


@dataclass(frozen=True)
class Made:
    """The file that an attempt ended with."""

    precision: str = ""
    ratio: float | None = None
    """Its time over that of fp32, where both were timed in turn."""
    lost: float = 0.0
    """Top-1 that it may have lost against its float network: the bad end; 0 for fp32."""
    others: tuple[Other, ...] = ()


@dataclass(frozen=True)
class Condition:
    """How the device was while it measured, as a record's verdict says."""

    state: str
    """``stable``, ``noisy``, ``drifting`` and so on."""
    reason: str = ""
    """The first one, where it is not stable."""


@dataclass(frozen=True)
class Attempt:
    """A plan that was carried out."""

    plan: Plan
    state: State
    rulings: tuple[Ruling, ...] = ()
    """On each clause: costs on the device, accuracy on validation images."""
    again: tuple[Ruling, ...] | None = None
    """On the costs, measured once more in a fresh process; None where it was not tried."""
    made: Made = field(default_factory=Made)
    validation: Mapping[str, Any] | None = None
    median: float | None = None
    """Milliseconds, as it was measured first."""
    stability: tuple[Condition, ...] = ()
    """What the verdict on each measurement says."""
    refused: str = ""
    """Why there is no file to measure."""

    @property
    def cost_short(self) -> tuple[Ruling, ...]:
        """The clauses on costs that were not shown to hold."""
        costs = [r for r in self.rulings if r.clause.metric not in ACCURACY]
        short = [r for r in costs if r.state != "holds"]
        return tuple(short or (r for r in self.again or () if r.state != "holds"))

    @property
    def worth_short(self) -> tuple[Ruling, ...]:
        """The clauses on accuracy that were not shown to hold."""
        worth = (r for r in self.rulings if r.clause.metric in ACCURACY)
        return tuple(r for r in worth if r.state != "holds")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        plan = self.plan
        return {
            "key": plan.key,
            "folder": plan.key,
            **asdict(plan),
            "state": self.state,
            "rulings": [ruling.to_dict() for ruling in self.rulings],
            "again": None if self.again is None else [r.to_dict() for r in self.again],
            "made": {**asdict(self.made), "others": [asdict(o) for o in self.made.others]},
            "validation": None if self.validation is None else dict(self.validation),
            "median": self.median,
            "stability": [asdict(condition) for condition in self.stability],
            "refused": self.refused or None,
        }


@dataclass(frozen=True)
class Limits:
    """What the ladder keeps to."""

    attempts: int = 6
    margin: float = 0.1
    epochs: int = 30
    precision: str = "auto"
    max_drop: float = 0.01
    largest: tuple[int, int] | None = None
    """Parameters and multiply-accumulates of the teacher, which a student has no more of both."""


@dataclass(frozen=True)
class Decision:
    """What is tried next, or why nothing is; ``why`` has the numbers behind it."""

    plan: Plan | None
    why: str
    more: bool = False
    """Whether there was something left to try, but no attempt."""
    untried: int = 0
    """Students among that which should fit."""


def state_of(rulings: Sequence[Ruling]) -> State:
    """Of all clauses together: a clause nobody could measure is not shown to hold."""
    states = {ruling.state for ruling in rulings}
    if states <= {"holds"}:
        return "holds"
    return "fails" if states & {"fails", "unknown"} else "open"


def ruling_from(table: Mapping[str, Any], budget: Budget) -> Ruling:
    """The ruling of :meth:`Ruling.to_dict`."""
    (clause,) = (c for c in budget.clauses if c.metric == table["metric"])
    figure = Figure(table["value"], table["lo"], table["hi"], table["why"] or "")
    return Ruling(clause, figure, table["state"])


def attempt_from(table: Mapping[str, Any], budget: Budget) -> Attempt:
    """The attempt of :meth:`Attempt.to_dict`."""
    names = ("network", "size", "epochs", "precision", "max_drop", "rung", "why")
    made, again = table["made"], table["again"]
    return Attempt(
        Plan(**{name: table[name] for name in names}),
        table["state"],
        tuple(ruling_from(r, budget) for r in table["rulings"]),
        None if again is None else tuple(ruling_from(r, budget) for r in again),
        Made(**{**made, "others": tuple(Other(**other) for other in made["others"])}),
        table["validation"],
        table.get("median"),
        tuple(Condition(**each) for each in table.get("stability", ())),
        table["refused"] or "",
    )


def made_from(section: Mapping[str, Any]) -> Made:
    """Which precision a file has, and what came of the others, by its manifest's ``export``."""
    asked = section["asked"]["precision"]
    auto = section.get("auto") or {}
    precision = auto.get("chosen") or asked
    rows = {row["precision"]: row for row in auto.get("candidates", ())}
    verdict = section.get("verdict") or {}
    low = (verdict.get("delta_interval") or [0.0])[0]
    return Made(
        precision,
        _ratio(rows.get(precision)),
        max(-low, 0.0) if precision != "fp32" else 0.0,
        tuple(_other(row) for name, row in rows.items() if name != precision),
    )


def _other(row: Mapping[str, Any]) -> Other:
    refused = row["refused"] or ""
    return Other(row["precision"], refused, _ratio(row), row["bytes"], bool(refused))


def _ratio(row: Mapping[str, Any] | None) -> float | None:
    if row is None:
        return None
    found = row["ratio"]
    return float(found["value"]) if found else 1.0 if row["precision"] == "fp32" else None
