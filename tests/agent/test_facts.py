"""Probes of a made-up machine's /proc and /sys, and of one that has none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgekd.agent import cgroups, facts
from tests.agent.machines import machine, says

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


def test_raspberry_pi_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says(tmp_path, "vcgencmd", "throttled=0x50005")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    now = facts.moment(tmp_path)
    assert now["throttle_bits"] == 0x50005
    assert facts.throttling([now]) == ["the voltage is too low", "it is throttled"]
    assert "it was throttled since boot" in facts.warnings({}, now)


def test_jetson_power_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says(tmp_path, "nvpmodel", "NV Power Mode: MAXN\n0")
    machine(tmp_path, {"etc/nv_tegra_release": "# R36"})
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    device = facts.describe(tmp_path)
    assert (device["power_mode"], device["gpu"]) == ("MAXN", "NVIDIA Tegra (integrated)")


def test_a_probe_that_fails_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says(tmp_path, "vcgencmd", "VCHI initialization failed")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert facts.moment(tmp_path)["throttle_bits"] is None


def test_clocks_beside_the_cpus(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
            "sys/class/devfreq/17000000.gpu/max_freq": "624750000\n",
            "sys/class/devfreq/fdab0000.npu/cur_freq": "1000000000\n",
            "sys/class/devfreq/odd/cur_freq": "unknown\n",
        },
    )
    assert facts.moment(root)["devfreq"] == {
        "17000000.gpu": {"khz": 306_000, "max_khz": 624_750},
        "fdab0000.npu": {"khz": 1_000_000, "max_khz": None},
    }


def test_graphics_cards_are_asked_only_where_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(tmp_path, "nvidia-smi", "H100, 1980, 1980, 70.1, 31, 0, 81559, 0x1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert facts.moment(tmp_path)["gpus"] is None
    (card,) = facts.moment(tmp_path, with_gpus=True)["gpus"]
    assert card["power_w"] == 70.1


def test_moments_fit_their_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import jsonschema

    folder = Path(facts.__file__).parents[1]
    schema = json.loads((folder / "profile.schema.json").read_text("utf-8"))
    schema = {"$ref": "#/$defs/moment", "$defs": schema["$defs"]}
    zone = "sys/class/thermal/thermal_zone0"
    devfreq = {"sys/class/devfreq/gpu/cur_freq": "306000000\n"}
    trip = {f"{zone}/trip_point_0_type": "passive", f"{zone}/trip_point_0_temp": "85000"}
    cooling = "sys/class/thermal/cooling_device0"
    cooled = {f"{cooling}/type": "cpufreq-cpu0", f"{cooling}/cur_state": "1"}
    root = machine(tmp_path, {**PI, **devfreq, **trip, **cooled})
    says(tmp_path, "nvidia-smi", "H100, [N/A], 1980, 70.1, 31, 0, 81559, 0x4")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    rich = facts.moment(root, with_gpus=True)
    assert all(rich[key] for key in ("devfreq", "trip_c", "slowed_by", "gpus", "temperature_c"))
    for moment in (rich, facts.moment()):
        jsonschema.validate(moment, schema)
        assert set(moment) == set(schema["$defs"]["moment"]["properties"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**rich, "trip_c": "hot"}, schema)
