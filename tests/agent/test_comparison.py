"""Which of two is faster, and when not to say so."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekd.agent.comparison import compare, ratio, sentence, spread
from edgekd.agent.estimates import Estimate

NULL = Estimate(1.002, 0.995, 1.009, "")


def test_ratio_of_block_medians() -> None:
    found = ratio([1.1, 2.2, 3.3], [1.0, 2.0, 3.0])  # blocks differ, their ratios do not
    assert found.value == pytest.approx(1.1)
    assert found.hi == pytest.approx(1.1)
    assert ratio([1.0], [2.0]).lo is None


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (Estimate(0.925, 0.91, 0.94, ""), "B is 6-9 % faster (95 %)"),
        (Estimate(1.2, 1.15, 1.25, ""), "B is 15-25 % slower (95 %)"),
        (Estimate(1.052, 1.051, 1.053, ""), "B is 5.1-5.3 % slower (95 %)"),
        (Estimate(1.05, 1.0501, 1.0499, ""), "B is 5.0 % slower (95 %)"),
        (Estimate(1.01, 0.99, 1.03, ""), "no difference seen"),
        (Estimate(1.003, 1.002, 1.0035, ""), "no difference seen"),  # under twice the null pair
        (Estimate(1.008, 1.007, 1.009, ""), "no difference seen"),  # the null pair reaches 1.009
        (Estimate(1.5, None, None, ""), "no difference seen"),
    ],
)
def test_sentence(measured: Estimate, said: str) -> None:
    assert sentence("B", measured, NULL) == said


def test_a_wide_null_pair_is_said_to_be_unstable() -> None:
    wide = Estimate(1.01, 0.95, 1.07, "")
    record = compare("A", "B", NULL, wide, "all runs", 0.02)
    assert (record["state"], record["reasons"]) == ("unstable", ["unstable, null pair +-7.0 %"])
    assert compare("A", "B", NULL, NULL, "all runs", 0.02)["state"] == "stable"
    assert math.isinf(spread(Estimate(1.0, None, None, "")))


def test_power_and_false_alarms_by_simulation() -> None:
    """G18: 5 % is seen in 95 of 100, nothing is seen in 5 at most, with ten blocks of 1.5 %."""
    rng = np.random.default_rng(5)
    claims = {1.0: 0, 1.05: 0}
    for truth in claims:
        for _ in range(400):
            a, b, again = np.exp(rng.normal(0, 0.015, size=(3, 10)))
            said = sentence("B", ratio(truth * b, a), ratio(again, a))
            claims[truth] += said != "no difference seen"
    assert claims[1.05] >= 0.95 * 400
    assert claims[1.0] <= 0.02 * 400
