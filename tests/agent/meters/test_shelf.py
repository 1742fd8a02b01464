"""The shelf of meters: what is found, what refuses, and which one is taken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekd.agent import meters
from edgekd.boards import METERS
from tests.agent.machines import machine


@dataclass
class Fixed:
    """A meter that is of no use but for its name and scope."""

    name: str
    scope: str = "rail"
    note: str = ""
    counts: bool = False
    period_s: float = 1.0
    closed: bool = False

    def read(self) -> float | None:
        return 1.0

    def close(self) -> None:
        self.closed = True


def test_profiles_and_the_shelf_know_the_same_meters() -> None:
    assert meters.names() == sorted(METERS)


def test_those_that_answer_and_those_that_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chip, zone = "sys/class/hwmon/hwmon0", "sys/class/powercap/intel-rapl:0"
    files = {
        f"{chip}/name": "ina3221",
        f"{chip}/in1_label": "VDD_IN",
        f"{chip}/in1_input": "5000",
        f"{chip}/curr1_input": "900",
        f"{zone}/name": "package-0",
        f"{zone}/energy_uj": "",  # root's alone
    }
    monkeypatch.setenv("PATH", str(tmp_path))
    found = meters.find(machine(tmp_path, files))
    assert [(meter.name, meter.read()) for meter in found.meters] == [("ina3221 VDD_IN", 4.5)]
    (refusal,) = found.refusals
    assert refusal.startswith("the meter rapl cannot be read")
    found.close()


def test_nothing_is_found_where_nothing_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert meters.find(tmp_path) == meters.Found([], [])


@pytest.mark.parametrize(
    ("names", "on_gpu", "chosen"),
    [
        ([], False, None),
        (["nvml T4"], False, None),  # the card does nothing then
        (["nvml T4"], True, "nvml T4"),
        (["nvml T4", "rapl package-0"], False, "rapl package-0"),
        (["rapl package-0", "nvml T4"], True, "nvml T4"),
        (["rapl package-0", "ina3221 VDD_IN"], False, "ina3221 VDD_IN"),
        (["nvml Orin", "ina3221 VDD_IN"], True, "ina3221 VDD_IN"),  # the board sees all
    ],
)
def test_which_one_is_taken(names: list[str], on_gpu: bool, chosen: str | None) -> None:
    offered = [Fixed(name, "board" if "VDD_IN" in name else "rail") for name in names]
    meter = meters.choose(offered, on_gpu)
    assert (meter and meter.name) == chosen


def test_closing_closes_all() -> None:
    offered = [Fixed("a"), Fixed("b")]
    meters.Found(offered).close()
    assert [meter.closed for meter in offered] == [True, True]
