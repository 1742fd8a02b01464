"""A model that hangs is ended, with a word on why."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest

from edgekd.agent.patience import within


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The codes that this process would have ended with."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def test_who_takes_too_long_is_ended(ended: list[int]) -> None:
    said: list[dict[str, Any]] = []
    with within(0.05, "m.onnx", said.append):
        until = time.monotonic() + 10
        while not ended and time.monotonic() < until:
            time.sleep(0.01)
    assert ended == [1]
    assert [event["kind"] for event in said] == ["time"]
    assert "m.onnx was not loaded and run once within 0.05 s" in said[0]["message"]
    assert "(--max-seconds of more than 0.0025: it gets 20 times" in said[0]["message"]


def test_who_is_done_in_time_goes_on(ended: list[int]) -> None:
    """Nobody waits for its end any more, however long that would have been."""
    said: list[dict[str, Any]] = []
    others = {*threading.enumerate()}
    with within(60, "m.onnx", said.append):
        (waiting,) = {*threading.enumerate()} - others
    waiting.join(10)
    assert not waiting.is_alive()
    assert ended == []
    assert said == []
