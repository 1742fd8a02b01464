"""The doctor: what a device has, what is in the way, and what is told of its traps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.boards import Connect
from edgekd.devices import reach
from edgekd.errors import DeviceError
from edgekd.flow import boarding, examining
from edgekd.flow.boarding import add, look_at
from edgekd.flow.checkup import Check
from edgekd.flow.examining import Examined, cores, examine
from tests.flow.surveys import package, survey


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own devices."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config/edgekd/devices"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the agent says, in place of asking one; a test changes it."""
    said = survey()
    for module in (boarding, examining):
        monkeypatch.setattr(module, "look_at", lambda device: said)
    return said


def named(found: Examined, name: str) -> Check:
    (check,) = [check for check in found.checks if check.name == name]
    return check


def test_a_device_on_which_all_is_well(seen: dict[str, Any]) -> None:
    add("it", Connect("me@it"))
    found = examine("it")
    assert found.ok
    assert not found.lacking
    assert named(found, "runtime").found == "onnxruntime 1.22.0"
    assert named(found, "cores").found == "4, up to 1.80 GHz"
    assert "raspberry-pi-4" in named(found, "profile").found
    assert "not measured" in named(found, "profile").found
    assert named(found, "governor").optional
    assert named(found, "temperature").found == "50 C (cpu), slows down at 80"
    traps = [check.found for check in found.checks if check.name == "trap"]
    assert any("ondemand" in text for text in traps)
    assert not any("1.21.0" in text or "32-bit" in text for text in traps)  # it has 1.22, 64 bits


@pytest.mark.parametrize(
    ("more", "name", "says", "lacking"),
    [
        ({"packages": {"numpy": package()}}, "numpy", "pip install", True),
        ({"packages": {"onnxruntime": package()}}, "runtime", "pip install", True),
        (
            {"packages": {"onnxruntime": package("1.21.0", "an illegal instruction")}},
            "runtime",
            "an illegal instruction",
            True,
        ),
        ({"disk_free_bytes": 10**6}, "disk", "Free some space", False),
        ({"writable": False}, "disk", "--folder", False),
    ],
)
def test_what_keeps_from_measuring_is_a_problem(
    more: dict[str, Any], name: str, says: str, lacking: bool, seen: dict[str, Any]
) -> None:
    add("it", Connect("me@it"))
    seen.update(survey(**more))
    found = examine("it")
    assert not found.ok
    assert found.lacking is lacking
    check = named(found, name)
    assert (check.ok, check.optional) == (False, False)
    assert says in check.advice


def test_traps_that_apply_are_told(seen: dict[str, Any]) -> None:
    seen.update(survey(packages={"onnxruntime": package("1.21.0")}, bits=32))
    traps = [check for check in examine("me@it").checks if check.name == "trap"]
    assert any("1.21.0" in check.found and "#23957" in check.advice for check in traps)
    assert any("32-bit" in check.found for check in traps)


@pytest.mark.parametrize(
    ("more", "name", "says"),
    [
        ({"moment": {"temperature_c": {"cpu": 79.0}}}, "temperature", "79 C (cpu)"),
        ({"moment": {"throttle_bits": 0x50005}}, "throttling", "the voltage is too low"),
        ({"lock": "used by me@lab"}, "in use", "used by me@lab"),
        ({"warnings": ["load average 9"]}, "notice", "load average 9"),
    ],
)
def test_the_state_is_told_and_is_no_problem(
    more: dict[str, Any], name: str, says: str, seen: dict[str, Any]
) -> None:
    seen.update(survey(**more))
    found = examine("me@it")
    assert found.ok
    check = named(found, name)
    assert says in check.found
    assert (check.ok, check.optional) == (False, True)


def test_tensorrt_is_never_to_be_installed_with_pip(seen: dict[str, Any]) -> None:
    seen.update(survey(device={"soc": "NVIDIA Jetson AGX Orin Developer Kit"}))
    add("orin", Connect("me@it"))
    found = named(examine("orin"), "runtime")
    assert not found.ok
    assert "sudo apt install python3-libnvinfer" in found.advice
    seen.update(survey(trtexec="/usr/src/tensorrt/bin/trtexec"))
    assert named(examine("orin"), "runtime").ok


def test_a_device_that_cannot_be_asked_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: object) -> None:
        raise DeviceError("the device's Python is 3.7; the agent needs 3.8")

    monkeypatch.setattr(examining, "look_at", refuse)
    found = examine("me@it")
    assert not found.ok
    assert found.survey == {}
    assert "needs 3.8" in named(found, "connection").advice


def test_the_map_of_little_and_big_cores() -> None:
    little = {"cpus": [0, 1, 2, 3], "part": "Cortex-A55", "max_khz": 1800000}
    big = {"cpus": [4, 5, 6, 7], "part": "Cortex-A76", "max_khz": 2400000}
    said = cores({"clusters": [little, big]})
    assert said == "4 x Cortex-A55 (0-3, 1.80 GHz); 4 x Cortex-A76 (4-7, 2.40 GHz)"
    odd = cores({"clusters": [{"cpus": [0, 2, 3], "part": None, "max_khz": None}, big]})
    assert odd.startswith("3 x core (0,2-3);")


def test_the_agent_says_all_that_is_read_here() -> None:
    """The surveys of these tests are made up: their keys have to be the agent's."""
    found, made_up = look_at(reach("local")), survey()
    assert set(made_up) <= set(found)
    for key in ("device", "packages", "moment"):
        assert set(made_up[key]) <= set(found[key])
    for name, one in found["packages"].items():
        assert set(package()) == set(one), name
