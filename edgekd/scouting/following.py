"""Following: who is worth a file in a faster precision, once the plain one was timed.

Writing and timing every candidate twice is what a scout would spend most on, and of most of them
the plain file says already that no precision makes them a student.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgekd.budget import LATENCY, Budget, Figure, figures_of
from edgekd.scouting.ranking import Cut, Entry, Standing, judged

GAIN = {"fp32": 1.0, "fp16": 2.0, "int8": 4.0}
"""Times that a precision may be faster, or its file smaller, than fp32: as many as there are fewer
bits. No processor was seen to gain more."""
SHRINKING = LATENCY | {"size_mb", "j_per_inf"}
GROWING = frozenset({"fps"})
"""The peak of memory is mostly the runtime's own, and gains nothing to count on."""


@dataclass(frozen=True)
class Followers:
    """The entries in faster precisions: who is timed after the plain round, and who never is."""

    going: list[Entry]
    dropped: dict[str, str]
    """Key -> why."""


def leading(entries: Sequence[Entry]) -> list[Entry]:
    """Each candidate in its plainest precision, which is timed first."""
    plainest: dict[str, Entry] = {}
    for each in sorted(entries, key=lambda each: _gain(each.precision)):
        plainest.setdefault(each.candidate.key, each)
    return [each for each in entries if plainest[each.candidate.key] == each]


def following(
    others: Sequence[Entry],
    leads: Mapping[str, Standing],
    decided: Cut,
    budget: Budget | None,
    margin: float,
) -> Followers:
    """Who of the others is worth a file: whose plain form goes on, or is over by a gain at most.

    Args:
        others: in faster precisions.
        leads: what is known of their plain forms, by the candidate's key.
        decided: what the plain round came to.
        budget: what they are held against.
        margin: as of :func:`edgekd.scouting.ranking.verdict`.
    """
    going, dropped = [], {}
    for each in others:
        why = _against(each, leads[each.candidate.key], decided, budget, margin)
        if why is None:
            going.append(each)
        else:
            dropped[each.key] = why
    return Followers(going, dropped)


def _against(
    entry: Entry, lead: Standing, decided: Cut, budget: Budget | None, margin: float
) -> str | None:
    """Why an entry is not worth a file."""
    plain, key = lead.entry.precision, lead.entry.key
    if lead.record is None:
        return f"not timed, as {plain} could not be measured"
    if key not in decided.dropped:
        return None
    why = f"not timed, as in {plain} {decided.dropped[key]}"
    if key not in decided.over:
        return why
    gain = _gain(entry.precision) / _gain(plain)
    best = {name: _gained(name, found, gain) for name, found in figures_of(lead.record).items()}
    if judged(best, budget, margin).fits == "over":
        return f"{why}; {entry.precision} gains {gain:g} times at most"
    return None


def _gained(metric: str, found: Figure, gain: float) -> Figure:
    """A figure, if all of the gain came true."""
    factor = 1 / gain if metric in SHRINKING else gain if metric in GROWING else 1.0
    value, lo, hi = (None if v is None else v * factor for v in (found.value, found.lo, found.hi))
    return replace(found, value=value, lo=lo, hi=hi)


def _gain(precision: str) -> float:
    return GAIN.get(precision, 1.0)
