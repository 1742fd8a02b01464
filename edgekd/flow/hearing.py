"""Hearing: what the agent tells while it measures, passed on to who watches, and kept."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from edgekd.profiling import Policy
from edgekd.watching import Watch

LONG = ("preparing", "energy")
"""Steps that take minutes, and tell nothing on the way."""


class Heard:
    """Passes the agent's progress on, and keeps its raw samples and what each model said.

    Args:
        watch: told the stages.
        policy: how it is measured.
        stop: once it is set, the next event ends the run, as an interruption would; where the
            device says nothing, a beat comes every half second.
    """

    def __init__(self, watch: Watch, policy: Policy, stop: threading.Event) -> None:
        self._watch, self._policy, self._stop = watch, policy, stop
        self._seconds = max(1, round(policy.max_seconds))
        self.samples: list[dict[str, Any]] = []
        self.found: dict[int, Mapping[str, Any]] = {}
        self._medians, self._timed, self._begun = "", False, ""

    def __call__(self, event: Mapping[str, Any]) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
        if event["event"] == "samples":
            self.samples.append(dict(event))
            self.timed()
        elif event["event"] == "found":
            self.found[event["model"]] = event
        elif event["event"] == "note":
            self._watch.say(str(event["text"]))
        elif event["event"] == "progress":
            self._progress(event)

    def timed(self) -> None:
        """A timing that knows enough ends before its time is up."""
        self._end()
        if not self._timed:
            self._timed = True
            self._watch.progress("profile", self._seconds, self._seconds, self._medians)

    def _progress(self, event: Mapping[str, Any]) -> None:
        step, model = str(event["step"]), str(event.get("model", ""))
        self._end()
        if step == "timing":
            done = min(round(event["seconds"]), self._seconds - 1)
            medians = ", ".join(f"{ms:.3g} ms" for ms in event["median_ms"].values())
            self._medians = f"median {medians}"
            self._watch.progress("profile", done, self._seconds, self._medians)
        elif "row" in event:
            whole, row = round(self._policy.sustained_s), event["row"]
            done = min(round(60 * row["minute"]), whole)
            self._watch.progress(step, done, whole, f"{model}: median {row['median']:.3g} ms")
        elif "done" in event:
            self._watch.progress(step, round(event["done"]), round(event["of"]), model)
        elif step in LONG:
            self._begun = step
            self._watch.progress(step, 0, 1, model)

    def _end(self) -> None:
        """What only says that it begins is over when something else is told."""
        if self._begun:
            self._watch.progress(self._begun, 1, 1)
            self._begun = ""


class Named:
    """A watch that says which device it speaks of; devices take turns to speak.

    Args:
        watch: told.
        device: put before each stage and each fact.
        turn: held by who speaks.
    """

    def __init__(self, watch: Watch, device: str, turn: threading.Lock) -> None:
        self._watch, self._device, self._turn = watch, device, turn

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Pass on, with the device's name."""
        with self._turn:
            self._watch.progress(f"{self._device} {stage}", done, total, note)

    def say(self, text: str) -> None:
        """Pass on, with the device's name."""
        with self._turn:
            self._watch.say(f"{self._device}: {text}")
