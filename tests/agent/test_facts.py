"""Probes of a made-up machine's /proc and /sys, and of one that has none."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from edgekd.agent import cgroups, facts

PI = {
    "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n",
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/meminfo": "MemTotal:  8000000 kB\nMemFree: 1 kB\nMemAvailable:  6000000 kB\n",
    "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2400000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "2400000\n",
    "sys/devices/system/cpu/cpu10/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpu2/cpufreq/scaling_cur_freq": "1800000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "61250\n",
    "sys/class/thermal/thermal_zone1/temp": "not a number\n",
    "proc/self/status": "Name:\tpython\nVmHWM:\t  94208 kB\n",
    "proc/1/cgroup": "12:pids:/docker/0123\n",
}


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def program(folder: Path, name: str, says: str) -> None:
    file = folder / name
    file.write_text(f"#!{sys.executable}\nprint({says!r})\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def test_a_board(tmp_path: Path) -> None:
    root = machine(tmp_path, PI)
    device, now = facts.describe(root), facts.moment(root)
    assert device["cpu"] == "Cortex-A76"
    assert device["soc"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert (device["governor"], device["os"]) == ("ondemand", "Debian GNU/Linux 12 (bookworm)")
    assert (device["ram_bytes"], now["free_bytes"]) == (8_192_000_000, 6_144_000_000)
    assert now["core_khz"] == [2_400_000, 1_800_000, 1_500_000]  # by number, not by letter
    assert now["temperature_c"] == {"cpu-thermal": 61.25}
    assert device["container"] == "docker"
    assert facts.peak_rss_bytes(root) == 94208 * 1024
    assert "the CPU governor is ondemand; nothing was changed" in facts.warnings(device, now)


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
    assert facts.describe(machine(tmp_path, {"proc/cpuinfo": cpuinfo}))["cpu_flags"] == flags


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    device, now = facts.describe(tmp_path), facts.moment(tmp_path)
    for name in ("soc", "gpu", "ram_bytes", "governor", "cpu_limit", "container"):
        assert device[name] is None
    for name in ("free_bytes", "core_khz", "temperature_c", "quota_stops"):
        assert now[name] is None
    assert facts.peak_rss_bytes(tmp_path) is not None  # from getrusage
    assert facts.throttling([now, now]) == []


def test_this_machine_as_json() -> None:
    device = facts.describe()
    assert json.loads(json.dumps({**device, **facts.moment()}))["cpu"]
    assert 1 <= device["physical_cores"] <= (os.cpu_count() or 1)
    assert (facts.peak_rss_bytes() or 0) > 10_000_000


def test_big_and_little_cores(tmp_path: Path) -> None:
    cores = "CPU part\t: 0xd03\nCPU part\t: 0xd08\nCPU part\t: 0xfff\n"
    root = machine(tmp_path, {"proc/cpuinfo": cores})
    assert facts.cpu_model(root) == "Cortex-A53 + Cortex-A72 + ARM part 0xfff"


def test_hyper_threads_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    siblings = {folder.format(cpu): f"{cpu % 2},{cpu % 2 + 2}\n" for cpu in range(4)}
    monkeypatch.setattr(facts, "affinity", lambda: [0, 1, 2, 3])
    assert facts.physical_cores(machine(tmp_path, siblings)) == 2


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/1\n0::/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "25000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            0.25,
        ),
        (
            {
                "proc/self/cgroup": "0::/user.slice/app\n",
                "sys/fs/cgroup/user.slice/app/cpu.max": "150000 100000\n",
            },
            1.5,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "nonsense\n"}, None),
    ],
)
def test_cpu_quota(tmp_path: Path, files: dict[str, str], cpus: float | None) -> None:
    assert cgroups.cpu_limit(machine(tmp_path, files)) == cpus


def test_a_quota_that_stopped_the_process_is_throttling(tmp_path: Path) -> None:
    stat_file = "nr_periods 48\nnr_throttled 46\nthrottled_time 1\n"
    root = machine(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.stat": stat_file})
    after = facts.moment(root)
    assert after["quota_stops"] == 46
    (text,) = facts.throttling([{**after, "quota_stops": 0}, after])
    assert text == "the container's CPU quota stopped the process 46 times"


def test_raspberry_pi_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "vcgencmd", "throttled=0x50005")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    now = facts.moment(tmp_path)
    assert now["throttle_bits"] == 0x50005
    assert facts.throttling([now]) == ["the voltage is too low", "it is throttled"]
    assert "it was throttled since boot" in facts.warnings({}, now)


def test_jetson_power_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "nvpmodel", "NV Power Mode: MAXN\n0")
    machine(tmp_path, {"etc/nv_tegra_release": "# R36"})
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    device = facts.describe(tmp_path)
    assert (device["power_mode"], device["gpu"]) == ("MAXN", "NVIDIA Tegra (integrated)")


def test_a_probe_that_fails_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "vcgencmd", "VCHI initialization failed")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert facts.moment(tmp_path)["throttle_bits"] is None


def test_load_is_a_warning() -> None:
    found = facts.warnings({"physical_cores": 2}, {"load_average": [3.0, 1.0, 1.0]})
    assert found == ["load average 3.0 on 2 cores before the measurement"]
