"""Cores: names from part numbers, instructions, hyper-threads, groups of equal ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.agent import cores
from tests.agent.machines import machine

CPU = "sys/devices/system/cpu/cpu{}"


def arm(parts: dict[int, str]) -> str:
    """/proc/cpuinfo of arm64 kernels, shortened."""
    blocks = [
        f"processor\t: {cpu}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n"
        for cpu, part in parts.items()
    ]
    return "\n".join(blocks) + "\nHardware\t: board\n"


@pytest.mark.parametrize(
    ("cpuinfo", "flags"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\n" * 2, ["avx2", "avx512f", "avx512_vnni"]),
        ("flags : avx2 avx_vnni\n\nflags : avx2\n", ["avx2"]),  # cores of two kinds
        ("Features\t: fp asimd asimddp i8mm\n", ["asimddp", "i8mm"]),
        ("", []),
    ],
)
def test_instructions_that_every_core_has(cpuinfo: str, flags: list[str], tmp_path: Path) -> None:
    assert cores.cpu_flags(machine(tmp_path, {"proc/cpuinfo": cpuinfo})) == flags


def test_names_of_parts(tmp_path: Path) -> None:
    root = machine(tmp_path, {"proc/cpuinfo": arm({0: "0xd03", 4: "0xd08", 5: "0xfff"})})
    assert cores.cpu_model(root) == "Cortex-A53 + Cortex-A72 + ARM part 0xfff"


def test_hyper_threads_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    siblings = {
        f"{CPU.format(cpu)}/topology/thread_siblings_list": f"{cpu % 2},{cpu % 2 + 2}\n"
        for cpu in range(4)
    }
    monkeypatch.setattr(cores, "affinity", lambda: [0, 1, 2, 3])
    assert cores.physical_cores(machine(tmp_path, siblings)) == 2


def strength(cpu: int, khz: int, capacity: int | None = None) -> dict[str, str]:
    found = {f"{CPU.format(cpu)}/cpufreq/cpuinfo_max_freq": f"{khz}\n"}
    return (
        found if capacity is None else {**found, f"{CPU.format(cpu)}/cpu_capacity": f"{capacity}"}
    )


def test_big_and_little_clusters(tmp_path: Path) -> None:
    """As an RK3588: four A55 and two pairs of A76."""
    parts = {cpu: "0xd05" if cpu < 4 else "0xd0b" for cpu in range(8)}
    files = {"proc/cpuinfo": arm(parts)}
    for cpu in range(8):
        khz = 1_800_000 if cpu < 4 else 2_256_000 if cpu < 6 else 2_304_000
        files.update(strength(cpu, khz, 530 if cpu < 4 else 1024))
    assert cores.clusters(machine(tmp_path, files)) == [
        {"cpus": [0, 1, 2, 3], "part": "Cortex-A55", "max_khz": 1_800_000, "capacity": 530},
        {"cpus": [4, 5], "part": "Cortex-A76", "max_khz": 2_256_000, "capacity": 1024},
        {"cpus": [6, 7], "part": "Cortex-A76", "max_khz": 2_304_000, "capacity": 1024},
    ]


def test_equal_arm_cores_are_one_cluster(tmp_path: Path) -> None:
    files = {"proc/cpuinfo": arm(dict.fromkeys(range(11), "0xd0b"))}
    for cpu in range(11):
        files.update(strength(cpu, 2_400_000))
    found = cores.clusters(machine(tmp_path, files))
    expected = {"part": "Cortex-A76", "max_khz": 2_400_000, "capacity": None}
    assert found == [{"cpus": list(range(11)), **expected}]  # by number: 10 comes last


@pytest.mark.parametrize(
    ("hybrid", "expected"),
    [
        ({}, [([0, 1, 2, 3], None, 5_000_000)]),  # a favoured core's turbo makes no group
        (
            {"sys/devices/cpu_core/cpus": "0-1\n", "sys/devices/cpu_atom/cpus": "2,3\n"},
            [([2, 3], "efficient", 3_600_000), ([0, 1], "performance", 5_000_000)],
        ),
    ],
)
def test_cores_of_x86(hybrid: dict[str, str], expected: list[Any], tmp_path: Path) -> None:
    files = {"proc/cpuinfo": "processor\t: 0\nmodel name\t: x\n", **hybrid}
    for cpu, khz in enumerate((4_800_000, 5_000_000, 3_600_000, 3_600_000)):
        files.update(strength(cpu, khz))
    found = cores.clusters(machine(tmp_path, files))
    assert [(one["cpus"], one["part"], one["max_khz"]) for one in found] == expected


def test_no_cores_that_tell(tmp_path: Path) -> None:
    assert cores.clusters(tmp_path) == []
    assert cores.governor(tmp_path) is None
    assert cores.frequencies(tmp_path, "scaling_cur_freq") is None


def test_every_core_of_this_machine_is_in_one_cluster() -> None:
    listed = [cpu for one in cores.clusters() for cpu in one["cpus"]]
    assert len(listed) == len(set(listed))
    assert not listed or set(cores.affinity()) <= set(listed)
