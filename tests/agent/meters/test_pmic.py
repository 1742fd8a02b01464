"""The Pi 5's power chip; the text is written by hand after what its firmware prints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekd.agent.meters.pmic import Pmic
from tests.agent.machines import program, says

SAID = """     3V7_WL_SW_A current(0)=0.50000000A
       3V3_SYS_A current(1)=0.10000000A
      VDD_CORE_A current(7)=2.00000000A
     3V7_WL_SW_V volt(8)=3.70000000V
       3V3_SYS_V volt(9)=3.30000000V
      VDD_CORE_V volt(15)=0.90000000V
         EXT5V_V volt(24)=5.15000000V
          BATT_V volt(25)=0.00000000V
"""
WATTS = 0.5 * 3.7 + 0.1 * 3.3 + 2 * 0.9


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that come first."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_rails_with_both_figures_are_added(path: Path) -> None:
    program(path, "vcgencmd", f"assert sys.argv[1:] == ['pmic_read_adc']\nprint({SAID!r})")
    meter = Pmic.find(path)
    assert meter is not None
    assert (meter.name, meter.scope, meter.counts) == ("pmic", "rail", False)
    assert "3 rails" in meter.note
    assert meter.read() == pytest.approx(WATTS)
    says(path, "vcgencmd", "VCHI initialization failed")
    assert meter.read() is None


def test_the_firmwares_other_way_to_print_it(path: Path) -> None:
    says(path, "vcgencmd", "VDD_CORE_V=0.8750V\nVDD_CORE_A=1.2340A\nBATT_V=0.0V")
    meter = Pmic.find(path)
    assert meter is not None
    assert meter.read() == pytest.approx(0.875 * 1.234)


def test_a_board_without_such_a_chip(path: Path) -> None:
    says(path, "vcgencmd", 'error=1 error_msg="Command not registered"')
    assert Pmic.find(path) is None
