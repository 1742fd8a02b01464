"""Clocks that jump: what is said of the numbers, with a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgekd.agent import summary
from edgekd.agent.bench import measure
from edgekd.agent.race import Race, Rules
from edgekd.agent.timekeeping import Clock, Reading, absurd, jumps
from tests.agent.fake_time import MS, Fake, Machine, entrant, jitter

RULES = Rules(min_seconds=1.0, max_seconds=8.0)
WARM = 520  # runs of 2 ms after which the warm-up is over
LATE = 900


def measured(machine: Machine, duration: Callable[[int], float]) -> tuple[Race, dict[str, Any]]:
    found = measure([entrant(Fake("a", machine, duration))], RULES, machine.clock)
    return found, summary.verdict(found, 0, RULES, [])


def steady(machine: Machine, at: int, event: Callable[[], None]) -> Callable[[int], float]:
    """Runs of 2 ms; something happens in one of them."""
    usual = jitter(2, 0.01)

    def duration(n: int) -> float:
        if n == at:
            event()
        return usual(n)

    return duration


@pytest.mark.parametrize(("at", "hours", "way"), [(100, 1, "forward"), (LATE, -1, "back")])
def test_a_system_clock_that_is_set_changes_no_number(at: int, hours: int, way: str) -> None:
    quiet, other = Machine(), Machine()
    expected, _ = measured(quiet, jitter(2, 0.01))

    def set_clock() -> None:
        other.aside += hours * 3600 * 1000 * MS

    found, verdict = measured(other, steady(other, at, set_clock))
    assert found.samples == expected.samples
    assert verdict["state"] == "stable"
    assert verdict["reasons"] == [
        f"the system clock was set {way} by 3600.0 s; the durations are not its"
    ]


def test_a_clock_that_a_time_server_slews_is_no_news() -> None:
    machine = Machine()
    usual = jitter(2, 0.01)

    def duration(n: int) -> float:
        machine.aside += round(0.0005 * 2 * MS)  # 500 ppm, the most that Linux slews by
        return usual(n)

    assert measured(machine, duration)[1] == {"state": "stable", "reasons": []}


def test_a_device_that_slept_is_unstable() -> None:
    machine = Machine()

    def sleep() -> None:
        machine.asleep += 12_000 * MS

    found, verdict = measured(machine, steady(machine, LATE, sleep))
    assert verdict == {
        "state": "unstable",
        "reasons": ["the device slept for 12.0 s in between"],
    }
    assert found.seconds < 3  # the monotonic clock stood still meanwhile


@pytest.mark.parametrize("at", [100, WARM, LATE])
@pytest.mark.parametrize("seconds", [0.02, 3, 3600])
def test_a_clock_that_runs_backwards_is_told_and_its_runs_are_not_counted(
    at: int, seconds: float
) -> None:
    machine = Machine()
    usual = jitter(2, 0.01)
    found, verdict = measured(machine, lambda n: -1000 * seconds if n == at else usual(n))
    assert min(run.wall_ns for run in found.samples[0]) > 0
    assert verdict["state"] == "unstable"
    assert verdict["reasons"][0].startswith("the monotonic clock ran backwards: ")


def test_a_clock_that_runs_backwards_ends_the_measurement() -> None:
    machine = Machine()
    fake = Fake("a", machine, lambda n: -3_600_000 if n == LATE else 2)
    measure([entrant(fake)], RULES, machine.clock)
    assert fake.n < LATE + 2000  # an hour's worth of runs would be two million


def test_between_two_runs_it_is_seen_as_well() -> None:
    machine = Machine()
    fake = Fake("a", machine, jitter(2, 0.01))
    late: list[int] = []

    def wall() -> int:
        late.extend([machine.now] * (fake.n == LATE))  # first the end of that run, then later ones
        return machine.now - (50 * MS if len(late) > 1 else 0)

    clock = Clock(wall, lambda: machine.busy, lambda: 0, wall, wall)
    found = measure([entrant(fake)], RULES, clock)
    assert found.backwards == 1
    assert min(run.wall_ns for run in found.samples[0]) > 0


def test_a_run_of_a_thousand_medians_is_counted_and_told() -> None:
    machine = Machine()
    usual = jitter(2, 0.01)
    found, verdict = measured(machine, lambda n: 5000 if n == LATE else usual(n))
    assert max(run.wall_ns for run in found.samples[0]) == 5000 * MS
    assert verdict["state"] == "unstable"
    assert any(text.startswith("a run took 5.0 s, 2") for text in verdict["reasons"])
    assert absurd([900.0, 0.1], 0.1) == []  # below a second a busy system can do that


def test_without_a_clock_since_boot_sleep_looks_like_a_clock_that_was_set() -> None:
    readings = [Reading(0, 0, None), Reading(MS, 5000 * MS, None)]
    (found,) = jumps(readings, 0)
    assert found[0] == "stable"
    assert found[1].startswith("the system clock was set forward by 5.0 s")


def test_this_machines_clocks_agree() -> None:
    clock = Clock()
    assert jumps([clock.read(), clock.read()], 0) == []
