"""What a verdict can say, and how findings change it; without numpy, as the parent needs it."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

STATES = ("throttled", "drifting", "bimodal", "unstable", "noisy", "stable")  # worst cause first

Finding = Tuple[str, str]
"""A state, and the sentence why."""


def worst(states: Sequence[str]) -> str:
    """The first of :data:`STATES` among these; ``stable`` if there are none."""
    return min(states, key=STATES.index, default="stable")


def verdict(found: Sequence[Finding]) -> Dict[str, Any]:
    """The state and the reasons, worst first; a note is a reason with the state ``stable``."""
    ordered = sorted(found, key=lambda pair: STATES.index(pair[0]))
    return {"state": worst([state for state, _ in found]), "reasons": [text for _, text in ordered]}


def add(to: Mapping[str, Any], found: Sequence[Finding]) -> Dict[str, Any]:
    """A verdict with more findings; what names its state comes first."""
    more = verdict(found)
    reasons: List[str] = list(to["reasons"])
    worse = STATES.index(more["state"]) < STATES.index(to["state"])
    return {
        "state": worst([to["state"], more["state"]]),
        "reasons": more["reasons"] + reasons if worse else reasons + more["reasons"],
    }
