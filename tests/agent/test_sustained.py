"""Running on and on: rows, and what they say of heat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.agent import facts
from edgekd.agent.bench import Entrant
from edgekd.agent.race import Rules
from edgekd.agent.sustained import Span, look, slower, sustain
from tests.agent.fake_time import MS, Fake, Machine, entrant, jitter

RULES = Rules()


def moment(**more: Any) -> dict[str, Any]:
    return {
        "load_average": [0.5, 0.4, 0.3],
        "core_khz": [1_800_000, 1_500_000],
        "temperature_c": {"cpu": 61.0, "board": 40.0},
        "throttle_bits": 0,
        "quota_stops": 3,
        **more,
    }


def run(
    machine: Machine, one: Entrant, span: Span, *moments: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[tuple[str, str]], list[dict[str, Any]]]:
    told: list[dict[str, Any]] = []
    coming = iter(moments)
    last = moments[-1] if moments else moment()
    found = sustain(one, span, RULES, told.append, machine.clock, lambda: next(coming, last))
    return found["rows"], found["found"], told


def test_a_row_for_each_stretch() -> None:
    machine = Machine()
    rows, found, told = run(machine, entrant(Fake("a", machine, jitter(20, 0.01))), Span(300, 60))
    assert told == rows
    assert [row["minute"] for row in rows] == [pytest.approx(n, abs=0.01) for n in range(1, 6)]
    row = rows[0]
    assert row["n"] == pytest.approx(3000, rel=0.01)
    assert row["median"] == pytest.approx(20, rel=0.01)
    assert row["p95"] == pytest.approx(20.33, rel=0.01)
    assert row["cpu_ms"] == pytest.approx(20, rel=0.01)
    assert (row["temperature_c"], row["core_khz"]) == (61.0, 1_800_000)  # the fastest
    assert row["kept_share"] == 1.0
    assert (row["throttle_bits"], row["load"]) == (0, 0.5)
    assert found == []
    assert machine.log[-1] == "-a"


def test_what_is_left_over_is_a_row_or_part_of_the_last() -> None:
    for seconds, ends in ((150, [1, 2, 2.5]), (145, [1, 2.417]), (20, [0.333])):
        machine = Machine()
        rows, _, _ = run(machine, entrant(Fake("a", machine, lambda n: 50)), Span(seconds, 60))
        assert [row["minute"] for row in rows] == [pytest.approx(end, abs=0.01) for end in ends]


def test_a_run_longer_than_a_row_is_a_row() -> None:
    machine = Machine()
    rows, _, _ = run(machine, entrant(Fake("a", machine, lambda n: 90_000)), Span(200, 60))
    assert [(row["n"], row["minute"], row["p95"]) for row in rows] == [
        (1, 1.5, None), (1, 3.0, None), (1, 4.5, None)
    ]  # fmt: skip


def warming(n: int) -> float:
    """20 ms, and 25 ms from the third minute on."""
    return 20.0 + 0.01 * (n % 7) if n < 6000 else 25.0 + 0.01 * (n % 7)


def test_a_model_that_gets_slower_drifts_and_says_by_how_much() -> None:
    machine = Machine()
    cool, hot = moment(), moment(temperature_c={"cpu": 79.0})
    one = entrant(Fake("a", machine, warming))
    _, found, _ = run(machine, one, Span(300, 60), cool, cool, cool, hot)
    (finding,) = found
    assert finding == (
        "drifting",
        "it became 25% slower in 5 minutes of running (20 to 25 ms; 61 degC and 1.8 GHz at first, "
        "79 degC and 1.8 GHz at the end)",
    )


@pytest.mark.parametrize(
    "cause", [{"core_khz": [900_000]}, {"throttle_bits": 0x50005}, {"throttle_bits": 0x40000}]
)
def test_slower_with_a_lower_clock_or_throttle_bits_is_throttled(cause: dict[str, Any]) -> None:
    machine = Machine()
    one = entrant(Fake("a", machine, warming))
    _, found, _ = run(machine, one, Span(300, 60), moment(), moment(), moment(**cause))
    assert {state for state, _ in found} == {"throttled"}
    assert any("25% slower" in text for _, text in found)


def test_bits_and_quotas_are_told_where_nothing_became_slower() -> None:
    machine = Machine()
    one = entrant(Fake("a", machine, lambda n: 20))
    moments = [moment(), moment(throttle_bits=4), moment(quota_stops=8)]
    _, found, _ = run(machine, one, Span(120, 60), *moments)
    assert [state for state, _ in found] == ["throttled", "throttled"]
    assert all(text.startswith("in the sustained run ") for _, text in found)
    assert "stopped the process 5 times" in found[0][1]


def row(minute: float, **more: Any) -> dict[str, Any]:
    bare = dict.fromkeys(("throttle_bits", "core_khz", "temperature_c"))
    return {"minute": minute, "kept_share": 1.0, **bare, **more}


def scattered(ms: float, share: float, count: int = 10) -> list[float]:
    return [ms * (1 + share * (-1) ** n * (1 + n % 3)) for n in range(count)]


def test_a_difference_within_the_noise_is_none() -> None:
    rows = [row(1), row(2)]
    assert slower(rows, [scattered(20, 0.1), scattered(22, 0.1)]) == []
    assert slower(rows[:1], [scattered(20, 0.1)]) == []
    (found,) = slower(rows, [scattered(20, 0.1), scattered(40, 0.1)])
    assert "unknown temperature at first" in found[1]
    close = [[20.0] * 10, [20.4] * 10]
    assert slower(rows, close) == []  # known well, and too little to speak of


def test_noise_that_wanders_for_minutes_is_no_drift() -> None:
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(200):
        series, last = [], float(rng.normal())
        for _ in range(300):
            last = 0.9 * last + 0.436 * float(rng.normal())
            series.append(20 * (1 + 0.03 * last))
        windows = [series[at : at + 10] for at in range(0, 300, 10)]
        alarms += bool(slower([row(n) for n in range(30)], windows))
    assert alarms <= 0.05 * 200


def test_slower_with_most_runs_interrupted_is_no_drift() -> None:
    windows = [scattered(20, 0.01), scattered(25, 0.01)]
    (found,) = slower([row(1), row(2, kept_share=0.3)], windows)
    assert found[0] == "noisy"
    assert found[1].endswith(", but up to 70% of its runs were interrupted")
    assert slower([row(1), row(2, kept_share=0.6)], windows)[0][0] == "drifting"


def test_another_core_that_idles_holds_nothing_back() -> None:
    machine = Machine()
    one = entrant(Fake("a", machine, warming))
    idle = moment(core_khz=[1_800_000, 600_000])
    rows, found, _ = run(machine, one, Span(300, 60), moment(), moment(), idle)
    assert rows[-1]["core_khz"] == 1_800_000
    assert [state for state, _ in found] == ["drifting"]


def test_interrupted_runs_are_counted() -> None:
    machine = Machine()
    fake = Fake("a", machine, lambda n: 20, stolen=lambda n: 1.0 if n % 4 == 0 else 0.0)
    rows, _, _ = run(machine, entrant(fake), Span(120, 60))
    assert [row["kept_share"] for row in rows] == [pytest.approx(0.75, abs=0.001)] * 2


def test_only_the_cores_used_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpu, khz in enumerate((2_400_000, 1_500_000, 1_600_000)):
        file = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq"
        file.parent.mkdir(parents=True)
        file.write_text(f"{khz}\n")
    monkeypatch.setattr(facts, "affinity", lambda: [1, 2])
    assert look(root=tmp_path)["core_khz"] == [1_500_000, 1_600_000]
    monkeypatch.setattr(facts, "affinity", lambda: [7])
    assert look(root=tmp_path)["core_khz"] is None


def test_a_clock_that_runs_backwards_ends_it() -> None:
    machine = Machine()
    fake = Fake("a", machine, lambda n: -3_600_000 if n == 500 else 20)
    rows, found, _ = run(machine, entrant(fake), Span(300, 60))
    assert fake.n < 1000
    assert len(rows) == 1
    assert found[0][0] == "unstable"
    assert "ran backwards" in found[0][1]


def test_a_device_that_slept_is_told() -> None:
    machine = Machine()

    def duration(n: int) -> float:
        machine.asleep += 30_000 * MS * (n == 4000)
        return 20

    _, found, _ = run(machine, entrant(Fake("a", machine, duration)), Span(120, 60))
    assert found == [("unstable", "the device slept for 30.0 s in between")]
