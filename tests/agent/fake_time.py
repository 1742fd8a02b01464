"""A machine on which time passes only when a model runs, and models of known speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekd.agent.bench import Entrant
from edgekd.agent.runtimes import TensorSpec
from edgekd.agent.timekeeping import Clock

MS = 1_000_000


@dataclass
class Machine:
    """Time that passes only when a model runs."""

    now: int = 0
    busy: int = 0
    switches: int = 0
    log: list[str] = field(default_factory=list)
    aside: int = 0
    """By how much the system's clock is ahead."""
    asleep: int = 0

    @property
    def clock(self) -> Clock:
        return Clock(
            lambda: self.now,
            lambda: self.busy,
            lambda: self.switches,
            lambda: self.now + self.asleep + self.aside,
            lambda: self.now + self.asleep,
        )


@dataclass
class Fake:
    """A session whose run number ``n`` takes ``duration(n)`` ms, and ``stolen(n)`` ms of others."""

    name: str
    machine: Machine
    duration: Callable[[int], float]
    stolen: Callable[[int], float] = lambda n: 0.0
    n: int = 0
    info: Mapping[str, str] = field(default_factory=dict)
    inputs: Sequence[TensorSpec] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def run(self, feed: Any) -> Any:
        cpu, other = round(self.duration(self.n) * MS), round(self.stolen(self.n) * MS)
        self.n += 1
        self.machine.busy += cpu
        self.machine.now += cpu + other
        self.machine.switches += other > 0
        self.machine.log.append(self.name)
        return {}

    def close(self) -> None:
        self.machine.log.append(f"-{self.name}")


def entrant(session: Fake) -> Entrant:
    def opened() -> Fake:
        session.machine.now += MS
        session.machine.log.append(f"+{session.name}")
        return session

    return Entrant(opened, lambda _: [{}])


def jitter(ms: float, share: float, seed: int = 0) -> Callable[[int], float]:
    noise = np.random.default_rng(seed).normal(1, share, 100_000)
    return lambda n: ms * float(noise[n])
