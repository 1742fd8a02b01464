"""Percentiles: how many runs they take, and whether their intervals hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekd.agent.estimates import Estimate
from edgekd.agent.percentiles import (
    binomial_cdf,
    design_effect,
    order_ranks,
    percentile,
    percentiles,
    samples_needed,
)


@pytest.mark.parametrize(
    ("percent", "runs"), [(50, 7), (90, 44), (95, 90), (99, 459), (99.9, 4603), (10, 44)]
)
def test_fewest_runs_of_a_percentile(percent: float, runs: int) -> None:
    assert samples_needed(percent) == runs


def test_percentile_without_enough_runs_is_not_invented() -> None:
    found = percentile(list(range(312)), 99)
    assert found == Estimate(None, None, None, "n/a (312 runs, need 459)")
    assert math.isinf(found.half_width)


@pytest.mark.parametrize("blocks", [None, [0] * 1000])
def test_percentile_is_a_run_that_happened_within_its_interval(blocks: list[int] | None) -> None:
    found = percentile([float(value) for value in range(1000, 0, -1)], 99, blocks)
    assert found.value == 990
    assert found.lo is not None
    assert found.hi is not None
    assert 980 < found.lo < 990 < found.hi <= 1000
    assert found.method == "order statistics, runs taken as independent"
    assert percentile(list(range(1, 1001)), 50, blocks).value == 500.5


def test_binomial_cdf_of_ten_coins() -> None:
    expected = np.cumsum([math.comb(10, k) for k in range(11)]) / 1024
    assert np.allclose(binomial_cdf(10, 0.5), expected)


def test_order_ranks_of_known_tables() -> None:
    assert order_ranks(10, 50) == (1, 8)  # the second and the ninth of ten: 97.9 %
    assert order_ranks(100, 50) == (39, 60)  # the 40th and the 61st of a hundred


@pytest.mark.parametrize(("percent", "n"), [(50, 40), (90, 200), (99, 600)])
def test_intervals_of_independent_runs_cover_the_truth(percent: float, n: int) -> None:
    rng = np.random.default_rng(1)
    truth = -math.log(1 - percent / 100)
    covered = 0
    for _ in range(600):
        found = percentile(rng.exponential(size=n).tolist(), percent)
        assert found.lo is not None
        assert found.hi is not None
        covered += found.lo <= truth <= found.hi
    assert covered >= 0.94 * 600


# ---- runs that resemble their neighbours ----

BLOCKS, RUNS = 12, 100
Z = {50.0: 0.0, 90.0: 1.281552, 95.0: 1.644854}


def wandering(rng: np.random.Generator, alike: float, between: float) -> np.ndarray:
    """AR(1) noise of variance 1, and a shift for each block on top."""
    fresh = rng.normal(size=BLOCKS * RUNS) * math.sqrt(1 - alike**2)
    series, last = np.empty_like(fresh), float(rng.normal())
    for index, new in enumerate(fresh):
        series[index] = last = alike * last + new
    return np.asarray(series + np.repeat(rng.normal(size=BLOCKS), RUNS) * between)


@pytest.mark.parametrize("percent", [50.0, 90.0, 95.0])
def test_intervals_of_runs_like_their_neighbours_cover_the_truth(percent: float) -> None:
    rng, number = np.random.default_rng(2), np.repeat(np.arange(BLOCKS), RUNS).tolist()
    truth = Z[percent] * math.sqrt(1 + 0.5**2)
    covered = naive = known = 0
    for _ in range(250):
        runs = (100 + wandering(rng, 0.8, 0.5)).tolist()
        found, plain = percentile(runs, percent, number), percentile(runs, percent)
        assert plain.lo is not None
        assert plain.hi is not None
        naive += plain.lo <= 100 + truth <= plain.hi
        if found.lo is not None and found.hi is not None:
            known += 1
            covered += found.lo <= 100 + truth <= found.hi
    assert known >= 0.8 * 250
    assert covered >= 0.92 * known
    assert naive < 0.7 * 250  # why the blocks are asked


def test_what_an_interval_was_widened_by_is_said() -> None:
    rng, number = np.random.default_rng(3), np.repeat(np.arange(BLOCKS), RUNS).tolist()
    alone = percentile((100 + wandering(rng, 0.0, 0.0)).tolist(), 50, number)
    assert alone.method in (
        "order statistics, widened 1.1x for runs that resemble their neighbours",
        "order statistics, widened 1.2x for runs that resemble their neighbours",
    )
    apart = (100 + wandering(rng, 0.0, 3.0)).tolist()
    words = percentile(apart, 50, number).method.partition("widened ")[2]
    assert float(words.partition("x")[0]) > 5
    lost = percentiles(apart, number)["p95"]
    assert lost.value is not None
    assert (lost.lo, lost.hi) == (None, None)
    assert lost.method.startswith("order statistics, range n/a (runs that resemble their neighb")
    assert lost.method.endswith(", need 72)")


def test_design_effect() -> None:
    even = np.array([10.0] * 8)
    assert design_effect(even, np.array([5.0] * 8)) == 1.0  # more alike than chance: not narrower
    assert design_effect(even, np.array([10.0, 0.0] * 4)) == pytest.approx(80 / 7)
    assert design_effect(even, np.array([0.0] * 8)) == 1.0  # all runs took as long
