"""Which node a large error comes from, given how good each value is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekd.export._explaining.stages import CEILING_DB, LEAST_DB, Spot
from edgekd.export._explaining.steps import Step
from edgekd.export._parity import CAP_DB

__all__ = ["JUMP_DB", "MOVERS", "first_of", "spots_of", "worst_of"]

JUMP_DB = 10.0
"""A node that loses so much at once has done it itself; less is an error that grows."""
WORST = 5
MOVERS = (
    *("Gather", "Slice", "Split", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"),
    *("Concat", "Expand"),
)
"""They compute nothing. A part of a value may be worse than the whole, but it was so before: they
are blamed for how their output is written down, and for nothing else."""


@dataclass(frozen=True)
class Levels:
    """Signal to noise of the values of a file."""

    steps: Mapping[str, Step]
    """Each step by every name of its output."""
    db: Mapping[str, float]

    def before(self, step: Step, ceiling: float) -> float:
        """Of the worst input; of one that has no counterpart, of what that was made from."""
        if step.op in MOVERS and step.value in self.db:
            return min(ceiling, self.db[step.value])
        found, waiting, seen = ceiling, list(step.inputs), set[str]()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.db:
                found = min(found, self.db[name])
            elif name in self.steps:
                waiting += self.steps[name].inputs
        return found

    def behind(self, step: Step) -> float | None:
        return min((self.db[name] for name in step.ends if name in self.db), default=None)


def spots_of(kind: str, steps: Sequence[Step], db: Mapping[str, float]) -> list[Spot]:
    """The steps of a file whose output has a level, in the order they are computed.

    Args:
        kind: ``fp32``, ``fp16`` or ``int8``.
        steps: the file's.
        db: signal to noise by value.
    """
    levels = Levels({name: step for step in steps for name in step.ends}, db)
    stage = "export" if kind == "fp32" else kind
    return [
        Spot(
            stage,
            step.op,
            step.node,
            step.value,
            levels.before(step, CEILING_DB[kind]),
            behind,
        )
        for step in steps
        if (behind := levels.behind(step)) is not None
    ]


def worst_of(steps: Sequence[Step], spots: Sequence[Spot]) -> tuple[Spot, ...]:
    """Those that lose most of what does not come back, the worst first.

    What is added to something much larger may be as wrong as it likes: a node's loss counts as far
    as the values behind it are worse, too, all along the way to the output that is worst.
    """
    lasting = _lasting(steps, {spot.tensor: spot.snr_db for spot in spots})
    losses = {s.tensor: s.before_db - lasting[s.tensor] for s in spots if s.tensor in lasting}
    ranked = sorted(
        (spot for spot in spots if min(losses.get(spot.tensor, 0), spot.added_db) > 0),
        key=lambda spot: losses[spot.tensor],
        reverse=True,
    )
    return tuple(ranked[:WORST])


def _lasting(steps: Sequence[Step], known: Mapping[str, float]) -> dict[str, float]:
    """By value, the best level on the worst way from it to the output."""
    makers = {name: step.value for step in steps for name in step.ends}
    behind: dict[str, list[float]] = {}
    found = {}
    for step in reversed(steps):
        level = min(behind.get(step.value, []), default=-CAP_DB)
        found[step.value] = level = max(level, known.get(step.value, -CAP_DB))
        for name in step.inputs:
            if name in makers:
                behind.setdefault(makers[name], []).append(level)
    return found


def first_of(kind: str, steps: Sequence[Step], spots: Sequence[Spot], output: str) -> Spot | None:
    """Where the error of the file's output begins.

    From the output backwards, through values that are bad themselves: an error that later nodes
    undo is no cause, nor is one beside the way. Of what is reached, the first node that loses much
    at once, or else the first that is bad.

    Args:
        kind: ``fp32``, ``fp16`` or ``int8``.
        steps: the file's.
        spots: what :func:`spots_of` says of them.
        output: the file's.
    """
    known = {spot.tensor: spot for spot in spots}
    reached = _reached(steps, known, output, LEAST_DB[kind])
    bad = [s for s in spots if s.tensor in reached and (s.op not in MOVERS or s.added_db > 0)]
    jumps = (spot for spot in bad if spot.added_db >= JUMP_DB)
    return next(jumps, bad[0] if bad else None)


def _reached(
    steps: Sequence[Step], known: Mapping[str, Spot], output: str, least: float
) -> set[str]:
    """Values that the output depends on through bad ones only, and the output."""
    makers = {name: step for step in steps for name in step.ends}
    reached, waiting = set[str](), [makers[output]]
    while waiting:
        step = waiting.pop()
        if step.value in reached:
            continue
        reached.add(step.value)
        for name in step.inputs:
            maker = makers.get(name)
            if maker and (maker.value not in known or known[maker.value].snr_db < least):
                waiting.append(maker)
    return reached
