"""Meters: what measures a board's power. One file, one meter; none of them estimates anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import List, Optional, Protocol, Sequence

from edgekd.agent.failures import AgentError

ROOT = Path("/")


class Meter(Protocol):
    """A meter that answered when it was found."""

    @property
    def name(self) -> str:
        """The name of its file and what of it is read: ``rapl package-0``."""
        ...

    @property
    def scope(self) -> str:
        """``board``: all that the supply gives; ``rail``: a part of it, named by the note."""
        ...

    @property
    def note(self) -> str:
        """What it sees."""
        ...

    @property
    def counts(self) -> bool:
        """Whether it counts joules from some start, rather than telling the watts of now."""
        ...

    @property
    def period_s(self) -> float:
        """Reading more often than this says nothing more, or disturbs what is measured."""
        ...

    def read(self) -> Optional[float]:
        """Joules so far, or watts now; None where it says nothing for once."""
        ...

    def close(self) -> None:
        """Let go of what reading needs."""
        ...


class Shelf(Protocol):
    """The one public class of a meter's file."""

    def find(self, root: Path) -> Optional[Meter]:
        """The meter of this kind, if there is one.

        Raises:
            AgentError: there is one and it cannot be read; with how to allow it.
        """
        ...


@dataclass(frozen=True)
class Found:
    """The meters of a device."""

    meters: Sequence[Meter]
    """Those that really answer; whoever found them closes them."""
    refusals: Sequence[str] = field(default_factory=list)
    """Sentences on those that are there and cannot be read."""

    def close(self) -> None:
        """Let go of all of them."""
        for meter in self.meters:
            meter.close()


def names() -> List[str]:
    """The kinds of meters that are known, by the files on this shelf."""
    return sorted(entry.name for entry in iter_modules(__path__) if not entry.name.startswith("_"))


def find(root: Path = ROOT) -> Found:
    """All meters that answer here, each of them read once."""
    meters: List[Meter] = []
    refusals: List[str] = []
    for name in names():
        try:
            meter = _shelf(name).find(root)
        except AgentError as error:
            refusals.append(str(error))
            continue
        if meter is not None:
            meters.append(meter)
    return Found(meters, refusals)


def choose(meters: Sequence[Meter], on_gpu: bool) -> Optional[Meter]:
    """The one that sees most of what a run costs; a graphics card's own only if it does the work.

    Args:
        meters: those that answer.
        on_gpu: whether the model runs on a graphics card.
    """
    fitting = [m for m in meters if on_gpu or not m.name.startswith("nvml")]
    wanted = sorted(
        fitting, key=lambda m: (m.scope != "board", m.name.startswith("nvml") != on_gpu)
    )
    return wanted[0] if wanted else None


def _shelf(name: str) -> Shelf:
    module = import_module(f"{__name__}.{name}")
    (public,) = module.__all__
    shelf: Shelf = getattr(module, public)
    return shelf
