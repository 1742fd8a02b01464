"""Trends: found where something rises, and not where it only wanders."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekd.agent.trends import inflation, slope, trend


def wandering(rng: np.random.Generator, alike: float, n: int = 20) -> list[float]:
    series, last = [], float(rng.normal())
    for _ in range(n):
        last = alike * last + math.sqrt(1 - alike**2) * float(rng.normal())
        series.append(last)
    return series


def test_theil_sen_ignores_an_outlier() -> None:
    assert slope([0, 1, 2, 3, 4], [10, 12, 14, 99, 18]) == pytest.approx(2)
    assert slope([1, 1], [1, 2]) == 0


def test_trend_tells_a_rise_from_noise() -> None:
    rng = np.random.default_rng(3)
    assert trend(list(range(10))) > 3
    assert trend(list(range(20))) > 2.6
    assert trend([1 - math.exp(-n / 5) for n in range(20)]) > 2.6  # as what warms up
    assert trend([1, 2]) == 0
    alarms = sum(abs(trend(rng.normal(size=20).tolist())) > 2.6 for _ in range(500))
    assert alarms <= 0.02 * 500


@pytest.mark.parametrize("alike", [0.5, 0.8, 0.9])
def test_noise_that_wanders_is_no_trend(alike: float) -> None:
    rng = np.random.default_rng(4)
    alarms = sum(abs(trend(wandering(rng, alike))) > 2.6 for _ in range(500))
    assert alarms <= 0.08 * 500  # 39 % at 0.9 if every value counted


def test_a_rise_under_noise_is_still_found() -> None:
    rng, found = np.random.default_rng(5), 0
    for _ in range(200):
        found += trend((np.linspace(0, 5, 20) + rng.normal(size=20)).tolist()) > 2.6
    assert found >= 0.9 * 200


def test_how_much_values_are_worth() -> None:
    rng = np.random.default_rng(6)
    for alike, worth in ((0.0, 1.0), (0.5, 3.0), (0.8, 9.0)):
        many = [inflation(wandering(rng, alike, 400)) for _ in range(40)]
        assert np.mean(many) == pytest.approx(worth, rel=0.15)
    assert inflation([1.0, 2.0, 1.0]) == 1.0
    assert inflation([3.0 * n for n in range(30)]) == 1.0
    assert inflation(wandering(rng, 0.99, 400), most=0.65) == pytest.approx(1.65 / 0.35)
