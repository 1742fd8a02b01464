"""Heat: zones, trip points, what cools at the cost of speed, counters."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekd.agent import heat
from tests.agent.machines import machine, says

ZONE, COOLING = "sys/class/thermal/thermal_zone{}", "sys/class/thermal/cooling_device{}"


def trips(zone: int, *points: tuple[str, int]) -> dict[str, str]:
    folder = ZONE.format(zone)
    found = {}
    for index, (kind, millidegrees) in enumerate(points):
        found[f"{folder}/trip_point_{index}_type"] = f"{kind}\n"
        found[f"{folder}/trip_point_{index}_temp"] = f"{millidegrees}\n"
    return found


def test_zones_and_their_lowest_trip_point_that_slows_down(tmp_path: Path) -> None:
    files = {
        f"{ZONE.format(0)}/type": "cpu-thermal\n",
        f"{ZONE.format(0)}/temp": "83400\n",
        **trips(0, ("active", 51_000), ("passive", 99_000), ("passive", 95_000), ("critical", 1)),
        f"{ZONE.format(1)}/temp": "-2500\n",  # no name, and frost
        **trips(1, ("critical", 105_000)),
        f"{ZONE.format(2)}/type": "gpu-thermal\n",
        f"{ZONE.format(2)}/temp": "not now\n",
        **trips(2, ("hot", -274_000)),  # a trip point that is switched off
    }
    root = machine(tmp_path, files)
    assert heat.temperatures(root) == {"cpu-thermal": 83.4, "thermal_zone1": -2.5}
    assert heat.trip_points(root) == {"cpu-thermal": 95.0}


def cooling(*devices: tuple[str, str]) -> dict[str, str]:
    found = {}
    for index, (kind, state) in enumerate(devices):
        found[f"{COOLING.format(index)}/type"] = f"{kind}\n"
        found[f"{COOLING.format(index)}/cur_state"] = f"{state}\n"
    return found


@pytest.mark.parametrize(
    ("devices", "slowed"),
    [
        ([], None),
        ([("pwm-fan", "3"), ("TCC Offset", "5"), ("intel_powerclamp", "-1")], None),  # cost nothing
        ([("thermal-cpufreq-0", "0"), ("pwm-fan", "3")], []),
        ([("cpufreq-cpu0", "4"), ("devfreq-17000000.gpu", "0")], ["cpufreq-cpu0"]),
        ([("cpu-throttle-alert", "1")], ["cpu-throttle-alert"]),
        ([("Processor", "0"), ("Processor", "2")], ["Processor (cooling_device1)"]),
    ],
)
def test_cooling_that_costs_speed(
    devices: list[tuple[str, str]], slowed: list[str] | None, tmp_path: Path
) -> None:
    assert heat.slowdowns(machine(tmp_path, cooling(*devices))) == slowed


def test_counters_of_packages_are_told_by_each_of_their_cores(tmp_path: Path) -> None:
    files = {}
    for cpu, (package, count) in enumerate([(0, 7), (0, 7), (1, 2), (1, 2)]):
        folder = f"sys/devices/system/cpu/cpu{cpu}"
        files[f"{folder}/thermal_throttle/package_throttle_count"] = f"{count}\n"
        files[f"{folder}/topology/physical_package_id"] = f"{package}\n"
    assert heat.stops(machine(tmp_path, files)) == 9


def test_none_of_it(tmp_path: Path) -> None:
    assert heat.temperatures(tmp_path) is None
    assert heat.trip_points(tmp_path) is None
    assert heat.slowdowns(tmp_path) is None
    assert heat.stops(tmp_path) is None


@pytest.mark.parametrize(
    ("said", "bits"), [("throttled=0x50005", 0x50005), ("throttled=0x0", 0), ("nothing", None)]
)
def test_raspberry_pi_bits(
    said: str, bits: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(tmp_path, "vcgencmd", said)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert heat.pi_bits() == bits
