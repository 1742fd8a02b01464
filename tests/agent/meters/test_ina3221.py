"""The INA3221 under hwmon, as on Orin, and under iio, as on the Jetson Nano."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.agent.failures import AgentError
from edgekd.agent.meters.ina3221 import Ina3221
from tests.agent.machines import machine


def chip(number: int, *rails: tuple[str, int, int]) -> dict[str, str]:
    """A chip with rails of a label, mV and mA; its seventh label is that of a sum."""
    folder = f"sys/class/hwmon/hwmon{number}"
    found = {f"{folder}/name": "ina3221\n", f"{folder}/in7_label": "sum of shunt voltages\n"}
    for channel, (label, millivolts, milliamperes) in enumerate(rails, 1):
        found[f"{folder}/in{channel}_label"] = f"{label}\n"
        found[f"{folder}/in{channel}_input"] = f"{millivolts}\n"
        found[f"{folder}/curr{channel}_input"] = f"{milliamperes}\n"
        found[f"{folder}/in{channel + 3}_input"] = "4\n"  # the shunt's own voltage
    return found


ORIN_NANO = chip(1, ("VDD_IN", 5056, 1000), ("VDD_CPU_GPU_CV", 5048, 200), ("VDD_SOC", 5048, 300))


def test_the_modules_supply_is_the_board(tmp_path: Path) -> None:
    root = machine(tmp_path, {**ORIN_NANO, "sys/class/hwmon/hwmon0/name": "nvme\n"})
    meter = Ina3221.find(root)
    assert meter is not None
    assert (meter.name, meter.scope, meter.counts) == ("ina3221 VDD_IN", "board", False)
    assert meter.read() == pytest.approx(5.056)  # not the rails behind it once more


def test_rails_of_two_chips_are_added_and_named(tmp_path: Path) -> None:
    """As an AGX Orin: nothing there meters the whole."""
    first = chip(1, ("VDD_GPU_SOC", 20_000, 500), ("VDD_CPU_CV", 20_000, 250), ("NC", 1, 1))
    root = machine(tmp_path, {**first, **chip(2, ("VDDQ_VDD2_1V8AO", 20_000, 100))})
    meter = Ina3221.find(root)
    assert meter is not None
    assert meter.scope == "rail"
    assert meter.name == "ina3221 VDD_GPU_SOC + VDD_CPU_CV + VDDQ_VDD2_1V8AO"
    assert meter.read() == pytest.approx(17.0)
    (root / "sys/class/hwmon/hwmon2/curr1_input").unlink()
    assert meter.read() is None  # a sum without a part would be another thing


def test_the_jetson_nanos_older_driver(tmp_path: Path) -> None:
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    files = {}
    for channel, (label, milliwatts) in enumerate([("POM_5V_IN", 2155), ("POM_5V_GPU", 40)]):
        files[f"{folder}/rail_name_{channel}"] = f"{label}\n"
        files[f"{folder}/in_power{channel}_input"] = f"{milliwatts}\n"
    meter = Ina3221.find(machine(tmp_path, files))
    assert meter is not None
    assert (meter.name, meter.scope) == ("ina3221 POM_5V_IN", "board")
    assert meter.read() == pytest.approx(2.155)


def test_one_that_cannot_be_read(tmp_path: Path) -> None:
    root = machine(tmp_path, chip(1, ("VDD_IN", 5056, 1000)))
    (root / "sys/class/hwmon/hwmon1/curr1_input").write_text("")
    with pytest.raises(AgentError, match=r"ina3221 cannot be read: .*curr1_input gave nothing"):
        Ina3221.find(root)


def test_none(tmp_path: Path) -> None:
    assert Ina3221.find(tmp_path) is None
    assert Ina3221.find(machine(tmp_path, chip(1, ("NC", 1, 1)))) is None
