"""``nvidia-smi`` in its own words, and without any.

The lines are written by hand after ``nvidia-smi --help-query-gpu`` and the manual of its csv
format; no card was asked for them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekd.agent import gpus
from tests.agent.machines import program, says


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that come first."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_two_cards(path: Path) -> None:
    first = "NVIDIA H100 80GB HBM3, 1980, 1980, 123.45, 41, 1024, 81559, 0x0000000000000004"
    says(path, "nvidia-smi", f"{first}\nNVIDIA T4, 300, 1590, 9.5, 33, 0, 15360, 0x1")
    cards = gpus.read()
    assert cards == [
        {
            "name": "NVIDIA H100 80GB HBM3",
            "sm_mhz": 1980,
            "sm_max_mhz": 1980,
            "power_w": 123.45,
            "temperature_c": 41.0,
            "memory_used_bytes": 2**30,
            "memory_total_bytes": 81559 * 2**20,
            "slowed_by": ["its power limit"],
        },
        {
            "name": "NVIDIA T4",
            "sm_mhz": 300,
            "sm_max_mhz": 1590,
            "power_w": 9.5,
            "temperature_c": 33.0,
            "memory_used_bytes": 0,
            "memory_total_bytes": 15360 * 2**20,
            "slowed_by": [],  # idle is no slowdown
        },
    ]


def test_a_card_that_tells_little(path: Path) -> None:
    says(path, "nvidia-smi", "Orin (nvgpu), [N/A], [N/A], [Not Supported], [N/A], N/A, N/A, [N/A]")
    (card,) = gpus.read() or []
    assert card.pop("name") == "Orin (nvgpu)"
    assert set(card.values()) == {None}


def test_a_driver_that_knows_the_newer_name_alone(path: Path) -> None:
    body = (
        "if 'clocks_throttle_reasons' in ' '.join(sys.argv):\n"
        "    print('Field \"clocks_throttle_reasons.active\" is not a valid field to query.')\n"
        "    sys.exit(2)\n"
        "print('NVIDIA X, 1, 2, 3, 4, 5, 6, 0x0000000000000068')"
    )
    program(path, "nvidia-smi", body)
    (card,) = gpus.read() or []
    assert card["slowed_by"] == [
        "a slowdown by the hardware",
        "heat (the driver's limit)",
        "heat (the hardware's limit)",
    ]


@pytest.mark.parametrize("said", ["No devices were found", "", "a, b"])
def test_no_card(said: str, path: Path) -> None:
    says(path, "nvidia-smi", said)
    assert gpus.read() is None


def test_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.read() is None


@pytest.mark.parametrize(
    ("text", "value"), [(" 70.13 \n", 70.13), ("0", 0.0), ("[N/A]", None), ("-", None), ("", None)]
)
def test_figures(text: str, value: float | None) -> None:
    assert gpus.number(text) == value
