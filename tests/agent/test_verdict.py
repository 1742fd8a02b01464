"""One word on a series of runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekd.agent.estimates import Estimate
from edgekd.agent.verdict import Evidence, drift_pct_per_min
from edgekd.agent.verdict import judge as judge_evidence

KNOWN = Estimate(2.0, 1.99, 2.01, "")
VAGUE = Estimate(2.0, 1.8, 2.2, "")
RNG = np.random.default_rng(0)
STEADY = RNG.normal(2, 0.02, 400)


def evidence(
    ms: Sequence[float] | np.ndarray,
    median: Estimate = KNOWN,
    undisturbed: Estimate = KNOWN,
    kept: float = 1.0,
    throttling: Sequence[str] = (),
) -> Evidence:
    series = [float(value) for value in ms]
    at_s = [0.01 * index for index in range(len(series))]
    clean = series[: int(kept * len(series))]
    return Evidence(at_s, series, clean, median, undisturbed, 0.02, throttling)


def judge(found: Evidence) -> tuple[str, list[str]]:
    verdict = judge_evidence(found)
    return verdict["state"], verdict["reasons"]


def test_steady_runs_are_stable() -> None:
    assert judge(evidence(STEADY)) == ("stable", [])
    assert drift_pct_per_min([0.0, 1.0], [1.0, 1.0]) is None


def test_a_rise_is_drift() -> None:
    rise = STEADY * np.linspace(1, 1.1, 400)
    state, reasons = judge(evidence(rise))
    assert state == "drifting"
    assert reasons[0].startswith("it became 10% slower within 4") or "9% slower" in reasons[0]
    rate = drift_pct_per_min([0.01 * index for index in range(400)], rise.tolist())
    assert rate is not None
    assert 120 < rate < 170  # 10 % in 4 s


def test_noise_that_wanders_is_no_drift() -> None:
    rng, alarms = np.random.default_rng(1), 0
    for _ in range(200):
        fresh, series = rng.normal(size=400) * 0.141, np.empty(400)
        last = float(rng.normal())
        for index, new in enumerate(fresh):
            series[index] = last = 0.99 * last + new
        ms = (2 + 0.12 * series).tolist()
        alarms += any("it became" in text for text in judge(evidence(ms))[1])
    assert alarms <= 0.05 * 200


def test_two_groups_are_bimodal() -> None:
    series = np.where(RNG.random(400) < 0.4, STEADY + 1, STEADY)
    assert judge(evidence(series))[0] == "bimodal"


def test_a_median_known_too_vaguely_is_printed_as_unstable() -> None:
    state, reasons = judge(evidence(STEADY, VAGUE, VAGUE))
    assert state == "unstable"
    assert reasons[0].startswith("unstable, +-10.0 %")


def test_disturbed_runs_make_it_noisy_when_the_rest_is_known() -> None:
    assert judge(evidence(STEADY, VAGUE, KNOWN))[0] == "noisy"
    state, reasons = judge(evidence(STEADY, kept=0.25))
    assert state == "noisy"
    assert reasons[0].startswith("75% of the runs were interrupted")


def test_moments_that_differ_are_noise() -> None:
    jumps = STEADY * np.repeat(RNG.permutation([1.0, 1.15] * 10), 20)
    state, reasons = judge(evidence(jumps))
    assert state in ("noisy", "bimodal")
    assert any("from moment to moment" in text for text in reasons)


def test_the_worst_cause_names_the_state_and_no_reason_is_lost() -> None:
    rise = STEADY * np.linspace(1, 1.3, 400)
    state, reasons = judge(evidence(rise, VAGUE, VAGUE, throttling=["the voltage is too low"]))
    assert state == "throttled"
    assert reasons[0] == "the voltage is too low"
    assert any("slower" in text for text in reasons)
    assert any("unstable, +-10.0 %" in text for text in reasons)
