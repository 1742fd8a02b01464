"""Energy: the difference between two loads, or nothing; and a sampler that stays out of the way."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from edgekd.agent import meters
from edgekd.agent.energy import Metered, measure
from edgekd.agent.meters import Found


@dataclass
class Load:
    """What a made-up device does, and draws."""

    idle_w: float = 2.0
    busy_w: float = 5.0
    busy: bool = False

    def watts(self) -> float:
        return self.busy_w if self.busy else self.idle_w

    def run(self) -> None:
        self.busy = True
        time.sleep(0.002)


@dataclass
class Told:
    """A meter that tells watts, with an error on top."""

    load: Load
    errors: Iterator[float] = field(default_factory=lambda: itertools.repeat(0.0))
    name: str = "told"
    scope: str = "board"
    note: str = ""
    counts: bool = False
    period_s: float = 0.005
    closed: bool = False
    slow_s: float = 0.0

    def read(self) -> float | None:
        time.sleep(self.slow_s)
        return self.load.watts() + next(self.errors)

    def close(self) -> None:
        self.closed = True


@dataclass
class Counted(Told):
    """A meter that counts joules."""

    name: str = "counted"
    scope: str = "rail"
    counts: bool = True
    passed: list[float] = field(default_factory=lambda: [0.0, time.perf_counter()])

    def read(self) -> float | None:
        joules, before = self.passed
        now = time.perf_counter()
        self.passed = [joules + self.load.watts() * (now - before), now]
        return self.passed[0]


def metered(meter: Told, **more: float) -> Metered:
    lengths = {"seconds": 0.3, "idle_seconds": 0.3, "settle_s": 0.02, **more}
    return measure(meter.load.run, meters=[meter], **lengths)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Told, Counted])
def test_the_difference_over_the_runs(kind: Callable[[Load], Told]) -> None:
    meter = kind(Load())
    found = metered(meter)
    assert found.reasons == []
    energy = found.energy
    assert energy is not None
    assert energy["idle_w"] == pytest.approx(2.0, rel=0.01)
    assert energy["busy_w"] == pytest.approx(5.0, rel=0.05)
    assert energy["seconds"] >= 0.3
    more = energy["busy_w"] - energy["idle_w"]
    assert energy["j_per_inference"] == pytest.approx(more * energy["seconds"] / energy["n"])
    assert (energy["meter"], energy["scope"]) == (meter.name, meter.scope)
    assert 5 < energy["rate_hz"] <= 1 / meter.period_s


def test_a_meter_that_is_slow_to_read_takes_a_tenth_of_the_time_at_most() -> None:
    meter = Told(Load(), period_s=0.001, slow_s=0.01)
    energy = metered(meter, seconds=1.0, idle_seconds=1.0).energy
    assert energy is not None
    assert energy["rate_hz"] < 13  # a tenth of the time is 10 a second, and one at each end


@pytest.mark.parametrize("busy_w", [2.0, 2.02])
def test_no_difference_is_no_number(busy_w: float) -> None:
    """The same, and a difference that the meter's own error hides."""
    errors = itertools.cycle([0.0, 0.9, -0.4, 0.2, -0.7, 0.5, -0.1])
    found = metered(Told(Load(busy_w=busy_w), errors))
    assert found.energy is None
    (reason,) = found.reasons
    assert reason.startswith("energy is n/a: told told ")
    assert "within its noise" in reason


def test_less_than_idle_is_no_number_and_is_said() -> None:
    found = metered(Told(Load(busy_w=1.2)))
    assert found.energy is None
    (reason,) = found.reasons
    assert "told 2 W idle and 1.2 W while the model ran, so it drew less than idle" in reason


def test_a_meter_that_is_stuck_is_no_number() -> None:
    assert metered(Told(Load(busy_w=2.0))).energy is None


def test_too_few_readings_are_no_number() -> None:
    found = metered(Told(Load(), period_s=5.0))
    assert found.energy is None
    assert "gave 2 readings idle, and 6 are needed" in found.reasons[0]


def test_no_meter_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load()
    assert measure(load.run, 1, 1, meters=[]) == Metered(None, ["no meter: energy is n/a"])
    monkeypatch.setattr(meters, "find", lambda: Found([], ["the meter rapl cannot be read: x"]))
    assert measure(load.run, 1, 1).reasons == ["the meter rapl cannot be read: x"]
    assert not load.busy  # nothing was run for nothing


def test_meters_that_were_found_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Told(Load())
    monkeypatch.setattr(meters, "find", lambda: Found([meter], ["another refused"]))
    found = measure(meter.load.run, 0.3, 0.3, settle_s=0.0)
    assert found.energy is not None
    assert meter.closed


def test_the_device_idles_before_it_runs() -> None:
    load, seen = Load(), []

    class Watching(Told):
        def read(self) -> float | None:
            seen.append(self.load.busy)
            return super().read()

    metered(Watching(load))
    assert seen == sorted(seen)  # all idle, then all busy
    assert {False, True} <= set(seen)
