"""The verdict: what a file loses on labelled images, and when that is too much."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.errors import UsageError
from edgekd.export._parity import Logits
from edgekd.export._verdict import check_enough, judge


def logits(classes: list[int], scale: float = 4.0) -> Logits:
    """Sure answers, (N, 3), a little noisy."""
    draw = np.random.default_rng(0)
    return np.eye(3)[classes] * scale + draw.normal(0, 0.1, (len(classes), 3))


TRUTH = [i % 3 for i in range(900)]
FLOAT = logits(TRUTH)


def spoilt(count: int) -> Logits:
    """The same answers, but for ``count`` that are wrong now."""
    return logits([(c + 1) % 3 if i < count else c for i, c in enumerate(TRUTH)])


def test_the_same_answers_pass() -> None:
    verdict = judge(FLOAT, FLOAT + 0.01, TRUTH, 0.01)
    assert verdict.passed
    assert (verdict.n, verdict.top1, verdict.reference, verdict.delta) == (900, 1.0, 1.0, 0.0)
    assert verdict.top1_agreement == 1.0
    assert verdict.delta_interval[0] < 0 < verdict.delta_interval[1]
    assert verdict.to_dict()["passed"] is True


def test_a_loss_beyond_what_is_allowed_is_refused() -> None:
    verdict = judge(FLOAT, spoilt(18), TRUTH, 0.01)
    (reason,) = verdict.reasons
    assert reason.startswith("it loses too much: -2.0 points of top-1 [")
    assert reason.endswith("over 900 images; allowed: 1 point")
    assert judge(FLOAT, spoilt(18), TRUTH, 0.04).passed


def test_the_bad_end_of_the_interval_decides() -> None:
    verdict = judge(FLOAT, spoilt(6), TRUTH, 0.01)
    assert verdict.delta == pytest.approx(-6 / 900)
    assert verdict.delta_interval[0] < -0.01
    assert "it may lose more than 1 point:" in verdict.reasons[0]


def test_few_images_cannot_show_that_little_is_lost() -> None:
    verdict = judge(FLOAT[:100], FLOAT[:100], TRUTH[:100], 0.01)
    assert verdict.reasons[0].startswith("it may lose more than 1 point: +0.0 points")
    with pytest.raises(
        UsageError, match=r"100 validation images .* takes 381\..* --max-drop 3\.7%"
    ):
        check_enough(100, 0.01)
    with pytest.raises(UsageError, match="it takes 381"):
        check_enough(380, 0.01)
    check_enough(381, 0.01)
    check_enough(100, 0.037)


def test_who_tries_again_has_to_show_more() -> None:
    first, fourth = (judge(FLOAT, spoilt(3), TRUTH, 0.01, attempt) for attempt in (1, 4))
    assert (first.confidence, fourth.confidence) == (0.95, 1 - 0.05 / 8)
    assert first.passed
    assert not fourth.passed
    assert fourth.delta_interval[0] < first.delta_interval[0]
    assert "99.38 %]" in fourth.reasons[0]


def test_luck_does_not_add_up_over_many_attempts() -> None:
    """Files that lose a little too much, tried until one passes: at most one run in twenty."""
    draw, accepted = np.random.default_rng(0), 0
    n, most, runs = 1000, 0.01, 400
    targets = np.zeros(n, np.int64)
    before = np.tile([1.0, 0.0], (n, 1))
    for _ in range(runs):
        for attempt in range(1, 9):
            after = before.copy()
            wrong = draw.random(n) < most + 0.0005
            after[wrong] = [0.0, 1.0]
            if judge(before, after, targets.tolist(), most, attempt).passed:
                accepted += 1
                break
    assert accepted / runs < 0.05


def test_right_answers_out_of_noise_are_no_likeness() -> None:
    draw = np.random.default_rng(1)
    other = logits(TRUTH, 200.0) + draw.normal(0, 1.0, (900, 3))
    assert "no likeness" in judge(FLOAT, other, TRUTH, 0.01).reasons[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(bad: float) -> None:
    broken = FLOAT.copy()
    broken[7, 1] = bad
    verdict = judge(FLOAT, broken, TRUTH, 0.5)
    assert verdict.reasons == ("its logits are not finite",)
    assert np.isfinite(verdict.snr_db)
