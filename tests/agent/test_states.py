"""Verdicts: the worst cause names the state, and no reason is lost."""

from __future__ import annotations

import pytest

from edgekd.agent import states


def test_the_worst_of_several() -> None:
    assert states.worst([]) == "stable"
    assert states.worst(["noisy", "drifting", "stable"]) == "drifting"


@pytest.mark.parametrize(
    ("found", "state", "reasons"),
    [
        ([], "noisy", ["loud"]),
        ([("stable", "a note")], "noisy", ["loud", "a note"]),
        ([("stable", "a note"), ("throttled", "hot")], "throttled", ["hot", "a note", "loud"]),
        ([("drifting", "slower")], "drifting", ["slower", "loud"]),
    ],
)
def test_more_findings_for_a_verdict(
    found: list[tuple[str, str]], state: str, reasons: list[str]
) -> None:
    before = {"state": "noisy", "reasons": ["loud"]}
    assert states.add(before, found) == {"state": state, "reasons": reasons}
    assert before["reasons"] == ["loud"]
