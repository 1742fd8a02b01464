"""What is around every task: the device's facts, and the clocks that are fixed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgekd.agent import facts, locking, tasks


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in its order: the clocks only pretend."""
    seen: list[str] = []

    @contextmanager
    def held(folder: Path, wanted: bool) -> Iterator[list[str]]:
        notes: list[str] = []
        seen.append(f"held {wanted}")
        try:
            yield notes
        finally:
            seen.append("set back")
            if wanted:
                notes.append("the governor was set")

    def describe() -> dict[str, Any]:
        seen.append("described")
        return {"cpu": "x"}

    monkeypatch.setattr(locking, "held", held)
    monkeypatch.setattr(facts, "describe", describe)
    return seen


@pytest.mark.parametrize(
    ("job", "wanted", "warnings"),
    [
        ({}, False, ["hot"]),
        ({"policy": {"lock_clocks": False}}, False, ["hot"]),
        ({"policy": {"lock_clocks": True}}, True, ["hot", "the governor was set"]),
    ],
)
def test_clocks_are_held_around_all_of_it(
    job: dict[str, Any],
    wanted: bool,
    warnings: list[str],
    order: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def profile(stage: Any) -> dict[str, Any]:
        order.append("profiled")
        return {"warnings": ["hot"]}

    monkeypatch.setitem(tasks.TASKS, "profile", profile)
    found = tasks.run_job(tmp_path / "job.json", job, lambda event: None)
    assert order == [f"held {wanted}", "described", "profiled", "set back"]
    assert found == {"device": {"cpu": "x"}, "warnings": warnings}


def test_clocks_are_set_back_when_a_task_fails(
    order: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def profile(stage: Any) -> dict[str, Any]:
        raise RuntimeError

    monkeypatch.setitem(tasks.TASKS, "profile", profile)
    with pytest.raises(RuntimeError):
        tasks.run_job(tmp_path / "job.json", {}, lambda event: None)
    assert order[-1] == "set back"


def test_all_that_can_be_asked() -> None:
    assert set(tasks.TASKS) == {"profile", "describe", "build", "survey", "furnish"}
