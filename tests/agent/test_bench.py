"""The timing loop, with sessions of known speed and a clock that only they move."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgekd.agent import summary
from edgekd.agent.bench import Entrant, measure, order
from edgekd.agent.race import MOST_RUNS, Race, Rules, Sample, WarmUp
from edgekd.devices._listening import MOST_LINE
from tests.agent.fake_time import MS, Fake, Machine, entrant, jitter

RULES = Rules(min_seconds=1.0, max_seconds=8.0)
WARM = WarmUp(10, "")


def race(rules: Rules, machine: Machine, *sessions: Fake) -> Race:
    return measure([entrant(session) for session in sessions], rules, machine.clock)


def test_rounds_mirror_and_turn() -> None:
    assert order(2, 0) == [0, 1, 1, 0]
    assert order(2, 1) == [1, 0, 0, 1]
    assert order(3, 1) == [1, 2, 0, 0, 2, 1]
    assert order(1, 5) == [0, 0]


def test_sessions_run_in_turn_and_are_opened_anew_for_each_block() -> None:
    machine = Machine()
    a, b = (Fake(name, machine, jitter(2, 0.01, seed)) for seed, name in enumerate("ab"))
    found = race(RULES, machine, a, b)
    text = "".join(machine.log)
    assert "abbabaab" in text
    assert "-a-b+b" in text  # the second block opens them the other way round
    assert text.endswith("-a-b")
    assert found.reopened
    assert text.count("+a") == found.blocks
    assert len(found.samples[0]) == len(found.samples[1])


def test_sessions_that_open_slowly_stay_open() -> None:
    machine = Machine()
    slow = Fake("a", machine, jitter(2, 0.01))

    def opened() -> Fake:
        machine.now += 2_000 * MS
        return slow

    found = measure([Entrant(opened, lambda _: [{}])], RULES, machine.clock)
    assert not found.reopened
    assert found.blocks >= RULES.blocks


def test_stops_once_the_median_is_known() -> None:
    machine = Machine()
    found = race(RULES, machine, Fake("a", machine, jitter(2, 0.01)))
    timing = summary.timing(found, 0)
    assert RULES.min_seconds <= found.seconds < 3
    assert found.blocks >= 5
    assert timing["median"]["value"] == pytest.approx(2, rel=0.01)
    assert timing["p99"]["value"] is not None
    assert (timing["kept_share"], timing["cpu_ms"]) == (1, pytest.approx(2, rel=0.01))
    assert summary.verdict(found, 0, RULES, []) == {"state": "stable", "reasons": []}


def test_warm_up_ends_when_it_is_steady_and_not_before() -> None:
    machine = Machine()
    cold = Fake("a", machine, lambda n: 2 + 20 * 0.99**n)
    warmup = race(Rules(min_seconds=1), machine, cold).warmup
    assert cold.duration(warmup.n) < 2.8
    assert warmup.reason == f"two windows of {warmup.n // 4} runs agree within 3 %"


def test_warm_up_is_ten_runs_and_a_second_at_least() -> None:
    machine = Machine()
    assert race(RULES, machine, Fake("a", machine, lambda n: 2)).warmup.n >= 500
    machine = Machine()
    slow = race(Rules(max_seconds=60), machine, Fake("a", machine, lambda n: 500.0))
    assert slow.warmup.n == 10


def test_warm_up_that_never_ends_says_so() -> None:
    machine = Machine()
    found = race(RULES, machine, Fake("a", machine, lambda n: 2 * 1.02**n if n < 400 else 2))
    assert found.warmup.reason.startswith("time limit: not steady after")


def test_a_drifting_model_is_labelled_drifting() -> None:
    machine = Machine()
    found = race(RULES, machine, Fake("a", machine, lambda n: 2 * (1 + n / 10_000)))
    assert summary.verdict(found, 0, RULES, [])["state"] == "drifting"
    assert summary.timing(found, 0)["drift_pct_per_min"] > 0


def test_a_model_that_never_settles_is_printed_as_unstable() -> None:
    machine = Machine()
    rng = np.random.default_rng(0)
    levels = rng.lognormal(0, 0.3, 100_000)
    found = race(RULES, machine, Fake("a", machine, lambda n: 2 * float(levels[n // 100])))
    assert found.seconds >= 0.7 * RULES.max_seconds  # it used the time it had
    verdict = summary.verdict(found, 0, RULES, [])
    assert verdict["state"] in ("unstable", "bimodal")
    assert any(text.startswith("unstable, +-") for text in verdict["reasons"])
    assert summary.timing(found, 0)["median"]["value"] is not None


def test_what_is_said_of_all_runs_fits_into_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_RUNS * 60 < MOST_LINE
    run = Sample(10**13, 10**9, 10**9, True, 10**4)  # of hours of runs of a second
    line = json.dumps(summary.samples(Race([[Sample(0, 0, 0, True, 0)] + [run] * 99], WARM), 0))
    assert len(line) < 60 * 100
    machine = Machine()
    rules = Rules(min_seconds=1, max_seconds=30, tolerance=0)
    monkeypatch.setattr("edgekd.agent.race.MOST_RUNS", 3_000)
    found = race(rules, machine, Fake("a", machine, jitter(1, 0.1)))
    assert 3_000 <= len(found.samples[0]) < 5_000


def test_a_slow_model_is_measured_within_the_cap_and_says_what_is_missing() -> None:
    machine = Machine()
    rules = Rules(max_seconds=20)
    found = race(rules, machine, Fake("a", machine, lambda n: 1000.0))
    assert machine.now / 1e9 < 1.5 * rules.max_seconds
    assert found.blocks >= rules.blocks
    verdict = summary.verdict(found, 0, rules, [])
    assert "runs fitted into the time; wanted 5 blocks of 30" in verdict["reasons"][-1]
    assert summary.timing(found, 0)["p99"]["method"].startswith("n/a (")


def test_runs_that_were_disturbed_are_marked_and_kept() -> None:
    machine = Machine()
    stolen = np.random.default_rng(0).random(100_000) < 0.3
    disturbed = Fake("a", machine, jitter(2, 0.01), lambda n: 4.0 * bool(stolen[n]))
    found = race(RULES, machine, disturbed)
    timing = summary.timing(found, 0)
    assert timing["kept_share"] == pytest.approx(0.7, abs=0.05)
    assert timing["p90"]["value"] == pytest.approx(6, rel=0.05)  # nothing is clipped
    assert timing["median_undisturbed"]["value"] == pytest.approx(2, rel=0.01)
    assert len(summary.samples(found, 0)["wall_ns"]) == timing["n"]


def test_lost_time_without_a_switch_counts_at_one_thread_only() -> None:
    for one_thread, kept in ((True, 0.0), (False, 1.0)):
        machine = Machine()
        waiting = Fake("a", machine, lambda n: 2, lambda n: 0.0)

        def run(feed: Any, machine: Machine = machine) -> Any:
            machine.busy += 1 * MS
            machine.now += 2 * MS
            return {}

        waiting.run = run  # type: ignore[method-assign]
        rules = Rules(min_seconds=1.0, max_seconds=8.0, one_thread=one_thread)
        assert summary.timing(race(rules, machine, waiting), 0)["kept_share"] == kept


def test_the_null_pair_runs_beside_a_comparison() -> None:
    machine = Machine()
    rules = Rules(min_seconds=1.0, max_seconds=8.0, null_pair=True)
    a = Fake("a", machine, jitter(2, 0.01, 0))
    b = Fake("b", machine, jitter(1.8, 0.01, 1))
    null = Fake("a", machine, jitter(2, 0.01, 2))
    found = race(rules, machine, a, b, null)
    (record,) = summary.comparisons(found, ["A", "B"], rules)
    assert record["null"]["value"] == pytest.approx(1, abs=0.01)
    assert record["ratio"]["value"] == pytest.approx(0.9, abs=0.01)
    assert record["sentence"].startswith("B is ")
    assert record["sentence"].endswith(" % faster (95 %)")
    assert record["basis"] == "undisturbed runs"


def test_progress_reports_the_medians() -> None:
    machine = Machine()
    seen: list[dict[str, Any]] = []
    measure(
        [entrant(Fake("a", machine, jitter(2, 0.01)))],
        RULES,
        machine.clock,
        lambda race: seen.append(summary.progress(race, ["A"])),
    )
    assert [event["blocks"] for event in seen] == list(range(1, len(seen) + 1))
    assert seen[-1]["median_ms"]["A"] == pytest.approx(2, rel=0.01)


def test_a_session_that_keeps_the_devices_own_time_is_timed_by_that() -> None:
    machine = Machine()
    session: Any = Fake("a", machine, lambda n: 2)
    session.device_ns = 700_000  # of the 2 ms that pass on the host
    found = race(RULES, machine, session)
    assert summary.timing(found, 0)["median"]["value"] == 0.7
    assert found.seconds >= RULES.min_seconds  # which are the host's


def test_p99_9_needs_4603_runs() -> None:
    for blocks, known in ((5, False), (10, True)):
        machine = Machine()
        rules = Rules(blocks=blocks, block_seconds=0.15 * blocks, min_seconds=1, max_seconds=20)
        timing = summary.timing(race(rules, machine, Fake("a", machine, jitter(2, 0.01))), 0)
        estimate = timing["p99.9"]
        if known:
            assert estimate["lo"] < estimate["value"] <= estimate["hi"] <= 2.2
        else:
            assert estimate["method"] == f"n/a ({timing['n']} runs, need 4603)"


def test_progress_ends_with_the_median_of_the_record() -> None:
    """A fast block has more runs than a slow one: a median of blocks' medians is another one."""
    machine = Machine()
    seen: list[dict[str, Any]] = []
    found = measure(
        [entrant(Fake("a", machine, lambda n: 8.0 if n < 250 else 2.0))],
        replace(RULES, tolerance=10.0),
        machine.clock,
        lambda race: seen.append(summary.progress(race, ["A"])),
    )
    recorded = summary.timing(found, 0)["median"]["value"]
    assert seen[-1]["median_ms"]["A"] == pytest.approx(recorded, abs=1e-6)
    assert (float(np.median(found.medians[0])), recorded) == (8.0, 2.0)
