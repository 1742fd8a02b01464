"""Steadiness: which of two measurements counts, and whether the device was quiet meanwhile.

An accepted file is measured twice. Where the two agree, the second one counts, which has the proof;
where their intervals lie apart, the worse one does: which of them is the device's nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgekd.agent.states import STATES, worst
from edgekd.budget import LATENCY, Ruling, bad_end
from edgekd.flow.mission.plans import Attempt, Condition
from edgekd.flow.mission.wording import said

STABLE = "stable"
TIMED = LATENCY | {"fps", "j_per_inf"}
"""What a device that is busy spoils."""
BUSY = "the device was busy, and its times may be too high"
MEANINGS = {
    "throttled": "the device was held back, and its times may be too high",
    "drifting": "its times changed while they were taken, and may not last",
    "bimodal": "its times fall into two groups, and which of them comes is not known",
}
CHANGING = ("throttled", "drifting")
"""What a longer measurement may settle."""
BRACKETS = str.maketrans("()", "[]")
QUIET = "measure again on a quiet device, with --restart"


def decided(attempt: Attempt) -> tuple[Ruling, ...]:
    """The ruling that counts for each clause."""
    return tuple(ruling for ruling, _ in _deciding(attempt))


def condition_of(record: Mapping[str, Any]) -> Condition:
    """What a record's verdict says; in no parentheses, as sentences put it into some."""
    verdict = record["verdict"]
    reasons = [text.translate(BRACKETS) for text in verdict.get("reasons") or ()]
    stable = verdict["state"] == STABLE
    reason = reasons[0] if reasons and not stable else ""
    return Condition(verdict["state"], reason.removeprefix(f"{verdict['state']}, "))


def unsteady(rulings: Sequence[Ruling], record: Mapping[str, Any]) -> bool:
    """Whether a time that is not over its bound was taken while the device changed its pace."""
    timed = [ruling for ruling in rulings if ruling.clause.metric in TIMED]
    return (
        record["verdict"]["state"] in CHANGING
        and bool(timed)
        and all(ruling.state != "fails" for ruling in timed)
    )


def stability(attempt: Attempt) -> Condition | None:
    """Of the measurement that decided, the worse of two; None where no time was bounded."""
    timed = {which for ruling, which in _deciding(attempt) if ruling.clause.metric in TIMED}
    known = {attempt.stability[which] for which in timed if which < len(attempt.stability)}
    return min(known, key=lambda each: STATES.index(each.state), default=None)


def doubt(attempt: Attempt, advice: str = "") -> str:
    """What is to be known of figures that are no good ones, for the end of a sentence; or nothing.

    It is in parentheses, as it is about one measurement and changes with the next.
    """
    found, apart = stability(attempt), _apart(attempt)
    text = f" (measured twice: {'; '.join(apart)}; the worse counts)" if apart else ""
    if found is None or found.state == STABLE:
        return text
    parts = (found.reason, MEANINGS.get(found.state, BUSY), advice)
    return f"{text} ({_named(found.state)}: {'; '.join(filter(None, parts))})"


def brief(states: Sequence[str]) -> str:
    """The same in two words: `` (not stable, noisy)``; nothing where all is well."""
    state = worst(states)
    return "" if state == STABLE else f" ({_named(state)})"


def _named(state: str) -> str:
    """``not stable``, and what it is where that is more: ``not stable, noisy``."""
    return "not stable" if state == "unstable" else f"not stable, {state}"


def _deciding(attempt: Attempt) -> Iterator[tuple[Ruling, int]]:
    """The ruling that counts for each clause, and which measurement it is of."""
    later = {ruling.clause.metric: ruling for ruling in attempt.again or ()}
    for first in attempt.rulings:
        second = later.get(first.clause.metric)
        yield (first, 0) if second is None or _outdoes(first, second) else (second, 1)


def _outdoes(first: Ruling, second: Ruling) -> bool:
    """Whether the first of two measurements is worse, and beyond what both of them can be."""
    ends = [bad_end(ruling.clause, ruling.figure) for ruling in (first, second)]
    if ends[0] is None or ends[1] is None or _overlap(first, second):
        return False
    return ends[0] > ends[1] if first.clause.sense == "<=" else ends[0] < ends[1]


def _overlap(first: Ruling, second: Ruling) -> bool:
    """Whether both have an interval, and some value lies in both."""
    a, b = first.figure, second.figure
    if a.lo is None or a.hi is None or b.lo is None or b.hi is None:
        return False
    return max(a.lo, b.lo) <= min(a.hi, b.hi)


def _apart(attempt: Attempt) -> list[str]:
    """Times that were measured twice, and contradict each other."""
    later = {ruling.clause.metric: ruling for ruling in attempt.again or ()}
    pairs = [(first, later.get(first.clause.metric)) for first in attempt.rulings]
    return [
        f"{said(first)}, then {said(second)}"
        for first, second in pairs
        if second is not None
        and first.clause.metric in TIMED
        and None not in (first.figure.hi, second.figure.hi)
        and not _overlap(first, second)
    ]
