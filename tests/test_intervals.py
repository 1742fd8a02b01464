"""Intervals of accuracies against published values and by simulation."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from edgekd.errors import UsageError
from edgekd.intervals import accuracy, mean, paired_difference, wilson


@pytest.mark.parametrize(
    ("successes", "n", "lo", "hi"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(successes: int, n: int, lo: float, hi: float) -> None:
    found = wilson(successes, n)
    assert found.lo == pytest.approx(lo, abs=5e-5)
    assert found.hi == pytest.approx(hi, abs=5e-5)


def test_wilson_of_all_is_within_bounds() -> None:
    assert wilson(20, 20).hi == 1
    for wrong in ((21, 20), (-1, 20), (0, 0)):
        with pytest.raises(ValueError, match="expected 0 to n successes"):
            wilson(*wrong)


def test_paired_difference_as_published() -> None:
    # airway hyper-responsiveness, in Fagerland, Lydersen & Laake, BMC Med Res Methodol 14:49, 2014
    found = paired_difference(1, 7, 21)
    assert found.value == -6 / 21
    assert (found.lo, found.hi) == pytest.approx((-0.517, -0.026), abs=5e-4)
    with pytest.raises(ValueError, match="b=3, c=3, n=5"):
        paired_difference(3, 3, 5)


@pytest.mark.parametrize(("b", "c", "n"), [(1, 7, 21), (12, 2, 50), (0, 5, 400), (30, 31, 62)])
def test_its_ends_lie_where_the_score_says(b: int, c: int, n: int) -> None:
    """The most likely share is sought by trial here, and not by the paper's equation."""
    found = paired_difference(b, c, n)
    for end, sign in ((found.lo, 1), (found.hi, -1)):
        p = np.linspace(max(0, -end), (1 - end) / 2, 2_000_001)[1:-1]
        likely = b * np.log(p + end) + c * np.log(p) + (n - b - c) * np.log(1 - 2 * p - end)
        best = p[likely.argmax()]
        z = (b - c - n * end) / np.sqrt(n * (2 * best + end * (1 - end)))
        assert z == pytest.approx(sign * 1.959964, abs=1e-3)


@pytest.mark.parametrize("n", [1, 20, 1000])
def test_paired_difference_of_equal_answers(n: int) -> None:
    found, z2 = paired_difference(0, 0, n), 1.959964**2
    assert found.hi == -found.lo == pytest.approx(z2 / (n + z2), rel=1e-5)


@pytest.mark.parametrize(("b", "c"), [(7, 0), (0, 7), (7, 7), (3, 4)])
def test_paired_difference_stays_within_bounds(b: int, c: int) -> None:
    for confidence in (0.5, 0.95, 0.9999):
        found = paired_difference(b, c, b + c, confidence)
        assert -1 <= found.lo < found.value + 1e-9
        assert found.value - 1e-9 < found.hi <= 1


@pytest.mark.parametrize(("loss", "n"), [(0.0105, 1000), (0.02, 400), (0.005, 2000)])
def test_the_bad_end_keeps_its_word_where_nothing_is_gained(loss: float, n: int) -> None:
    """Wald's kind of interval claims too little loss here twice as often as it says."""
    lost = np.random.default_rng(0).binomial(n, loss, size=4000)
    ends = {int(c): paired_difference(0, int(c), n).lo for c in np.unique(lost)}
    assert np.mean([ends[int(c)] > -loss for c in lost]) <= 0.03


def test_paired_difference_is_antisymmetric_and_never_a_point() -> None:
    one, other = paired_difference(5, 1, 50), paired_difference(1, 5, 50)
    assert (one.value, one.lo, one.hi) == (-other.value, -other.hi, -other.lo)
    none = paired_difference(0, 0, 1000)
    assert none.value == 0
    assert none.lo < 0 < none.hi


@pytest.mark.parametrize(("gain", "loss", "n"), [(0.02, 0.03, 500), (0.01, 0.01, 200)])
def test_paired_difference_covers_the_truth(gain: float, loss: float, n: int) -> None:
    rng = np.random.default_rng(0)
    cells = rng.multinomial(n, [gain, loss, 1 - gain - loss], size=2000)
    found = [paired_difference(int(b), int(c), n) for b, c, _ in cells]
    covered = sum(interval.lo <= gain - loss <= interval.hi for interval in found)
    assert covered >= 0.94 * 2000


def test_a_paired_comparison_sees_more_than_two_separate_ones() -> None:
    targets = [0] * 1000
    reference = [0] * 750 + [1] * 250
    predictions = [0] * 745 + [1] * 255
    record = accuracy(predictions, targets, reference)
    assert record["value"] == 0.745
    assert record["delta"] == pytest.approx(-0.005)
    width = record["delta_interval"][1] - record["delta_interval"][0]
    assert width < 0.2 * (record["interval"][1] - record["interval"][0])
    assert record["top1_agreement"] == 0.995


def test_what_is_not_known_is_null() -> None:
    alone = accuracy([1, 2, 3])
    assert (alone["n"], alone["value"], alone["delta"]) == (3, None, None)
    agreed = accuracy([1, 2, 3], reference=[1, 2, 4])
    assert agreed["top1_agreement"] == pytest.approx(2 / 3)
    assert agreed["value"] is None


def test_lists_of_other_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match="there are 2 targets and 3 images"):
        accuracy([1, 2, 3], [1, 2])


@pytest.mark.parametrize(
    ("freedom", "confidence", "point"),  # tables of Student's t
    [
        (1, 0.95, 12.7062),
        (2, 0.95, 4.3027),
        (2, 0.99, 9.9248),
        (4, 0.95, 2.7764),
        (9, 0.99, 3.2498),
    ],
)
def test_the_interval_of_a_mean_is_student_s(freedom: int, confidence: float, point: float) -> None:
    values = [float(i) for i in range(freedom + 1)]
    found = mean(values, confidence)
    error = statistics.stdev(values) / math.sqrt(len(values))
    assert found.value == statistics.fmean(values)
    assert (found.hi - found.value) / error == pytest.approx(point, abs=1e-4)
    assert found.value - found.lo == pytest.approx(found.hi - found.value)


def test_equal_values_are_believed_to_their_rounding() -> None:
    assert mean([0.5, 0.5]).hi == 0.5
    assert mean([0.5, 0.5], least=0.01).hi == pytest.approx(
        0.5 + 12.7062 * 0.01 / math.sqrt(2), 1e-4
    )
    with pytest.raises(ValueError, match="two values"):
        mean([0.5])
