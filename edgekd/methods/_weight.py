"""Weight: a term's factor, constant or moving while the training goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Weight:
    """A term's factor, constant or moving evenly from ``start`` to ``end`` during ``ramp``."""

    start: float
    end: float
    ramp: tuple[float, float] = (0.0, 1.0)
    """Part of the training, in [0, 1], in which it moves."""

    @classmethod
    def read(cls, value: Any, ramp: Any = (0.0, 1.0)) -> Weight:
        """From a number, or two."""
        ends = value if isinstance(value, list | tuple) else [value]
        if not isinstance(ramp, list | tuple) or len(ramp) != 2:
            raise ValueError(f"ramp must be two parts of the training in [0, 1], got {ramp!r}")
        begin, until = (float(part) for part in ramp)
        if not 0 <= begin < until <= 1:
            raise ValueError(f"ramp must be two parts of the training in [0, 1], got {ramp}")
        return cls(float(ends[0]), float(ends[-1]), (begin, until))

    def __call__(self, progress: float) -> float:
        """The factor at ``progress`` in [0, 1]."""
        begin, until = self.ramp
        done = min(max((progress - begin) / (until - begin), 0.0), 1.0)
        return self.start + (self.end - self.start) * done

    def __str__(self) -> str:
        ends = [self.start] if self.start == self.end else [self.start, self.end]
        # as it is read back: "1" for 1.0, and no "+", which joins terms
        return "..".join(repr(end).removesuffix(".0").replace("e+", "e") for end in ends)
