"""Medians and their intervals against known values and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekd.agent import estimates
from edgekd.agent.estimates import Estimate, mean_interval
from edgekd.agent.percentiles import percentile


def test_median_interval_covers_the_truth_despite_drift_between_blocks() -> None:
    rng = np.random.default_rng(2)
    covered = naive = 0
    for _ in range(400):
        shifts = rng.normal(0, 0.02, size=(8, 1))
        runs = 1 + shifts + rng.normal(0, 0.01, size=(8, 40))
        found = estimates.median_of_blocks(np.median(runs, axis=1).tolist(), runs.ravel().tolist())
        inside = percentile(runs.ravel().tolist(), 50)
        assert None not in (found.lo, found.hi, inside.lo, inside.hi)
        covered += found.lo <= 1 <= found.hi  # type: ignore[operator]
        naive += inside.lo <= 1 <= inside.hi  # type: ignore[operator]
    assert covered >= 0.93 * 400
    assert naive < 0.6 * 400  # why the blocks are there


def test_median_of_one_block_has_no_interval() -> None:
    found = estimates.median_of_blocks([2.0], [1.0, 2.0, 3.0])
    assert found == Estimate(2.0, None, None, "n/a (1 block, need 2)")


def test_student_t() -> None:
    assert estimates.t_quantile(4) == 2.776
    assert estimates.t_quantile(60) == pytest.approx(2.000, abs=0.002)
    centre, half = estimates.centre_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert centre == 3
    assert half == pytest.approx(2.776 * math.sqrt(2.5 / 5))


def test_one_odd_block_does_not_decide_the_interval() -> None:
    rng = np.random.default_rng(6)
    plain = rng.normal(1, 0.01, 9).tolist()
    centre, half = estimates.centre_interval([*plain, 3.0])
    assert abs(centre - 1) < 0.01
    assert half < 0.015


@pytest.mark.parametrize("n", [5, 8, 15, 30])
def test_the_interval_of_the_centre_covers_it(n: int) -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(1500):
        centre, half = estimates.centre_interval(rng.normal(1, 0.02, n).tolist())
        covered += abs(centre - 1) <= half
    assert 0.93 <= covered / 1500 <= 0.97


def test_two_modes_only_where_there_are_two() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(2, 0.02, 300), rng.normal(3, 0.03, 200)
    modes = estimates.two_modes([*first, *second])
    assert modes is not None
    assert np.allclose(modes, (2, 3), rtol=0.01)
    for single in (rng.normal(2, 0.3, 500), rng.uniform(1, 2, 500), 1 + rng.exponential(size=500)):
        assert estimates.two_modes(single.tolist()) is None
    assert estimates.two_modes([1.0] * 100) is None
    assert estimates.two_modes([*first, 9.0, 9.0]) is None  # stragglers are not a mode


def test_estimates_for_json_are_short() -> None:
    assert Estimate(1.23456789, None, 2.0, "t").to_dict() == {
        "value": 1.234568,
        "lo": None,
        "hi": 2.0,
        "method": "t",
    }


def test_variation() -> None:
    assert estimates.variation([1.0, 3.0]) == pytest.approx(math.sqrt(2) / 2)
    assert estimates.variation([5.0]) == 0


def test_the_interval_of_the_mean_is_that_of_the_blocks_means() -> None:
    blocks = [[1.0, 3.0], [2.0, 4.0], [3.0, 5.0]]  # means 2, 3, 4
    half = 4.303 * 1.0 / math.sqrt(3)
    assert mean_interval(blocks) == pytest.approx((3.0 - half, 3.0 + half))
    assert mean_interval([[1.0, 2.0]]) is None
    low, _ = mean_interval([[1.0], [100.0]]) or (None, None)
    assert low == 0.0  # no run takes less


@pytest.mark.parametrize("slow", [0.0, 0.15])
def test_the_interval_of_the_mean_covers_it_where_slow_blocks_hold_fewer_runs(slow: float) -> None:
    draw = np.random.default_rng(5)

    def block(pace: float) -> list[float]:
        runs = draw.lognormal(math.log(pace), 0.3, 400)
        return list(runs[: int(np.searchsorted(runs.cumsum(), 50.0)) + 1])  # 50 ms of them

    def blocks(count: int) -> list[list[float]]:
        return [block(4.0 if draw.random() < slow else 1.0) for _ in range(count)]

    truth = float(np.mean(np.concatenate(blocks(20_000))))
    covered = 0
    for _ in range(400):
        drawn = blocks(40)
        low, high = mean_interval(drawn) or (0.0, 0.0)
        assert low < np.mean(np.concatenate(drawn)) < high
        covered += low <= truth <= high
    assert covered >= 364  # 91 % of 400, where 95 % are expected
