"""Evidence between two moments as sentences; and none where nothing happened."""

from __future__ import annotations

from typing import Any

import pytest

from edgekd.agent.throttling import throttling, warnings

HOT = {"temperature_c": {"cpu": 83.0, "gpu": 40.0}, "trip_c": {"cpu": 85.0}}
COOL = {"temperature_c": {"cpu": 60.0}, "trip_c": {"cpu": 85.0}}


def card(*reasons: str) -> dict[str, Any]:
    return {"gpus": [{"name": "H100", "slowed_by": list(reasons)}]}


@pytest.mark.parametrize(
    ("moments", "sentences"),
    [
        ([], []),
        ([{}, {}], []),
        (
            [{"quota_stops": 3}, {"quota_stops": None}, {"quota_stops": 49}],
            ["the container's CPU quota stopped the process 46 times"],
        ),
        ([{"quota_stops": 46}, {"quota_stops": 46}], []),  # all of them were before
        ([{"heat_stops": 1}, {"heat_stops": 4}], ["the CPU slowed down for its heat 3 times"]),
        (
            [{"throttle_bits": 0x1}, {"throttle_bits": 0x50004}],
            ["the voltage is too low", "it is throttled"],
        ),
        (  # it was so between two looks, and is over
            [{"throttle_bits": 0x10000}, {"throttle_bits": None}, {"throttle_bits": 0x70000}],
            [
                "the frequency was capped between two looks",
                "it was throttled between two looks",
            ],
        ),
        ([{"throttle_bits": 0x50000}, {"throttle_bits": 0x50000}], []),
        ([{"throttle_bits": 0x50000}], []),  # since boot: a warning, but not of this run
        (
            [{"slowed_by": []}, {"slowed_by": ["cpufreq-cpu0"]}, {"slowed_by": None}],
            ["the system slowed it down against heat (cpufreq-cpu0)"],
        ),
        (
            [
                {"core_khz": [600_000, 600_000]},
                {"core_khz": [2_400_000, 600_000], **COOL},
                {"core_khz": [1_500_000, 1_500_000], **HOT},
            ],
            [
                "the CPU's clock fell from 2.40 GHz to 1.50 GHz while cpu was at 83 C, near its "
                "trip point of 85 C"
            ],
        ),
        # fallen while cool: nothing to do, or a governor; hot at full speed: no harm done
        ([{"core_khz": [2_400_000]}, {"core_khz": [1_500_000], **COOL}], []),
        ([{"core_khz": [2_400_000]}, {"core_khz": [2_350_000], **HOT}], []),
        ([{"core_khz": [600_000]}, {"core_khz": [2_400_000], **HOT}], []),
        (
            [card(), card("its power limit"), card("its power limit")],
            ["H100 was slowed down by its power limit"],
        ),
        ([{"gpus": None}, {"gpus": [{"name": "Orin", "slowed_by": None}]}], []),
    ],
)
def test_what_held_it_back(moments: list[dict[str, Any]], sentences: list[str]) -> None:
    assert throttling(moments) == sentences


@pytest.mark.parametrize(
    ("device", "before", "sentences"),
    [
        ({}, {}, []),
        (
            {"physical_cores": 2},
            {"load_average": [3.0, 1.0, 1.0]},
            ["load average 3.0 on 2 cores before the measurement"],
        ),
        ({"physical_cores": 8}, {"load_average": [3.0, 1.0, 1.0]}, []),
        ({"governor": "performance"}, {}, []),
        ({"governor": "ondemand"}, {}, ["the CPU governor is ondemand; nothing was changed"]),
        (
            {},
            HOT,
            [
                "cpu was at 83 C, near its trip point of 85 C before the measurement; let it cool "
                "down first"
            ],
        ),
        ({}, {"throttle_bits": 0x10000}, ["the voltage was too low since boot"]),
    ],
)
def test_the_state_it_was_found_in(
    device: dict[str, Any], before: dict[str, Any], sentences: list[str]
) -> None:
    assert warnings(device, before) == sentences
