"""RAPL's counters: packages alone, turns of the counter, and root's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.agent.failures import AgentError
from edgekd.agent.meters.rapl import Rapl
from tests.agent.machines import machine

FOLDER = "sys/class/powercap"
FULL = 262_143_328_850  # as an Intel package's says


def zone(name: str, kind: str, microjoules: int) -> dict[str, str]:
    return {
        f"{FOLDER}/{name}/name": f"{kind}\n",
        f"{FOLDER}/{name}/energy_uj": f"{microjoules}\n",
        f"{FOLDER}/{name}/max_energy_range_uj": f"{FULL}\n",
    }


def counted(root: Path, name: str, microjoules: int) -> None:
    (root / FOLDER / name / "energy_uj").write_text(f"{microjoules}\n")


def test_packages_are_added_and_their_parts_are_not(tmp_path: Path) -> None:
    files = {
        **zone("intel-rapl:0", "package-0", 1_000_000),
        **zone("intel-rapl:0:0", "core", 500_000),
        **zone("intel-rapl:1", "package-1", 2_000_000),
        **zone("intel-rapl:2", "psys", 9_000_000),  # of which packages are a part
        **zone("intel-rapl-mmio:0", "package-0", 1_000_000),  # the same once more
    }
    root = machine(tmp_path, files)
    meter = Rapl.find(root)
    assert meter is not None
    assert (meter.name, meter.scope, meter.counts) == ("rapl package-0 + package-1", "rail", True)
    assert meter.read() == 0
    for name in ("intel-rapl:0:0", "intel-rapl:2", "intel-rapl-mmio:0"):
        counted(root, name, 99_000_000)
    counted(root, "intel-rapl:0", 4_000_000)
    counted(root, "intel-rapl:1", 2_500_000)
    assert meter.read() == pytest.approx(3.5)


def test_a_counter_that_starts_again(tmp_path: Path) -> None:
    root = machine(tmp_path, zone("intel-rapl:0", "package-0", FULL - 1_000_000))
    meter = Rapl.find(root)
    assert meter is not None
    counted(root, "intel-rapl:0", 2_000_000)
    assert meter.read() == pytest.approx(3.0)
    counted(root, "intel-rapl:0", 3_000_000)
    assert meter.read() == pytest.approx(4.0)
    (root / FOLDER / "intel-rapl:0/energy_uj").unlink()
    assert meter.read() is None


@pytest.mark.parametrize("content", ["", "Permission denied"])
def test_a_counter_of_roots_alone(content: str, tmp_path: Path) -> None:
    """Tests may run as root, who reads any file: one without a number stands for it."""
    root = machine(tmp_path, zone("intel-rapl:0", "package-0", 0))
    (root / FOLDER / "intel-rapl:0/energy_uj").write_text(content)
    with pytest.raises(AgentError, match=r"rapl cannot be read: .*energy_uj .*sudo chmod.*udev"):
        Rapl.find(root)


def test_none(tmp_path: Path) -> None:
    assert Rapl.find(tmp_path) is None
    assert Rapl.find(machine(tmp_path, {f"{FOLDER}/intel-rapl/enabled": "1"})) is None
