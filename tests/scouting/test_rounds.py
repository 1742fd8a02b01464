"""Rounds: what is timed how well, what is left out of the next, and what is told of it."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from edgekd.budget import Budget
from edgekd.profiling import Policy
from edgekd.scouting.efforts import FIRST_RUNS, LATER_RUNS, LONGEST_S, Effort, efforts
from edgekd.scouting.rounds import race
from edgekd.scouting.telling import anchor_of, rounds_of, rows
from edgekd.scouting.timing import Noise

MADE = runpy.run_path(str(Path(__file__).parent / "entrants.py"))
entry, Stopwatch, Quiet = MADE["entry"], MADE["Stopwatch"], MADE["Quiet"]
FIELD = {f"n{i}": 1.0 + i for i in range(20)}
COURSE = [Effort(FIRST_RUNS), Effort(LATER_RUNS), Effort(150, last=True)]


def test_the_bad_ones_are_timed_briefly() -> None:
    entered = [entry(name, 0.5 + ms / 100) for name, ms in FIELD.items()]
    watch, stand = Quiet(), Stopwatch(FIELD)
    found = race(entered, stand, COURSE, Budget.parse("p95<=6ms"), 0.1, watch)
    assert [(runs, len(names)) for runs, names in stand.asked] == [(30, 20), (120, 10), (150, 5)]
    assert [(each.candidates, each.kept) for each in found.rounds] == [(20, 10), (10, 5), (5, 5)]
    assert stand.asked[2][1] == {"n0", "n1", "n2", "n3", "n4"}  # those with p95 within 6 ms
    assert len(stand.gone) == 15
    assert ("round 1", 20, 20, "10 left") in watch.stages
    by = {s.entry.candidate.name: s for s in found.standings}
    assert (by["n19"].rounds, by["n7"].rounds, by["n0"].rounds) == (1, 2, 3)
    assert by["n19"].dropped == "round 1: 234% beyond p95<=6ms, others are nearer"


def test_what_fails_is_a_line_and_not_the_end() -> None:
    entered = [entry(name, 0.5) for name in ("a", "b")]
    stand = Stopwatch({"a": 1.0}, failing=["b"])
    found = race(entered, stand, [COURSE[0], COURSE[2]], None, 0.1, Quiet())
    assert stand.asked[1][1] == {"a"}
    good, bad = rows(found, None, 0.1)
    assert (good["key"], good["failed"], bad["failed"]) == ("a-32px", None, "no such operator")
    assert bad["median"]["value"] is None
    assert bad["fits"] == "unknown"
    nobody = race(entered, Stopwatch({}, failing=["a", "b"]), COURSE, None, 0.1, Quiet())
    assert len(nobody.rounds) == 1


def test_a_row_has_all_that_was_found() -> None:
    entered = [entry("a", 0.5), entry("b", None), entry("b", None, how="int8")]
    stand = Stopwatch({"a": 1.0, "b": 2.0})
    budget = Budget.parse("p95<=3ms, top1_drop<=1%")
    found = race(entered, stand, COURSE[2:], budget, 0.1, Quiet())
    table = rows(found, budget, 0.1)
    json.dumps(table, allow_nan=False)
    first = table[0]
    assert [row["key"] for row in table] == ["a-32px", "b-32px", "b-32px-int8"]
    assert first["prior"] == {"value": 0.5, "basis": "published", "source": "a table"}
    assert (first["pareto"], first["fits"], first["n"], first["rounds"]) == (True, "fits", 150, 1)
    assert (first["size_bytes"], first["peak_bytes"]) == (1_000_000, 70_000_000)
    (ruling,) = first["rulings"]
    assert (ruling["clause"], ruling["state"], ruling["value"]) == ("p95<=3ms", "holds", 1.1)
    assert rounds_of(found)[0]["kept"] == 3
    assert anchor_of(None)["spread"] is None


def test_noise_is_how_far_the_anchor_was_from_itself() -> None:
    assert Noise("a", (1.0, 1.1, 0.8)).spread == pytest.approx(0.2)
    assert Noise("a", (1.0,)).spread is None


@pytest.mark.parametrize(
    ("rounds", "entries", "runs"),
    [
        (3, 100, [30, 120, 150]),
        (3, 8, [30, 150]),  # dropping would take longer than timing them
        (1, 100, [150]),
        (4, 100, [30, 120, 120, 150]),
    ],
)
def test_how_well_each_round_knows(rounds: int, entries: int, runs: list[int]) -> None:
    course = efforts(rounds, entries, 8, None, Policy())
    assert [effort.runs for effort in course] == runs
    assert [effort.last for effort in course] == [False] * (len(runs) - 1) + [True]


def test_the_last_round_makes_the_runs_that_a_percentile_takes() -> None:
    last = efforts(3, 100, 8, Budget.parse("p99<=3ms, j_per_inf<=1mJ"), Policy())[-1]
    assert last.runs == 734
    policy = last.policy(Policy(), [10.0] * 10)
    assert policy.blocks * policy.block_runs >= 734
    assert policy.energy
    assert policy.max_seconds == pytest.approx(1.5 * 734 * 0.1 + 2)
    assert last.policy(Policy(), [1000.0] * 10).max_seconds == LONGEST_S
    assert last.policy(Policy(), []).max_seconds == Policy().max_seconds
    assert not efforts(3, 100, 8, Budget.parse("p95<=3ms"), Policy())[-1].energy


def test_a_short_round_takes_the_policy_and_little_time() -> None:
    given = Policy(threads=2, affinity="0,1", energy=True)
    short = Effort(FIRST_RUNS).policy(given, [])
    assert (short.threads, short.affinity, short.energy) == (2, "0,1", False)
    assert short.blocks * short.block_runs == FIRST_RUNS
    assert short.max_seconds < 10


def test_a_faster_precision_is_timed_of_those_only_that_may_matter() -> None:
    ms = {f"n{i}": 1.0 + 2 * i for i in range(16)}
    entered = [
        entry(name, 0.5 + i / 100, how=how) for how in ("fp32", "int8") for i, name in enumerate(ms)
    ]
    stand = Stopwatch(ms)
    budget = Budget.parse("p50<=5ms")
    found = race(entered, stand, COURSE, budget, 0.1, Quiet())
    assert len(stand.asked[0][1]) == 16
    by = {s.entry.key: s for s in found.standings}
    assert len(by) == 32
    timed = {key for key, s in by.items() if s.record is not None and key.endswith("int8")}
    # eight that are left in fp32, and those to 19 ms: an eighth of the bits would do for them
    assert timed == {f"n{i}-32px-int8" for i in range(10)}
    assert by["n15-32px-int8"].dropped == (
        "round 1: not timed, as in fp32 521% beyond p50<=5ms, others are nearer; int8 gains 4 "
        "times at most"
    )
    assert by["n15-32px-int8"].failed is None
    assert "n8" in stand.gone
    row = rows(found, budget, 0.1)[-1]
    assert (row["median"]["value"], row["failed"]) == (None, None)


def test_memory_gains_nothing_and_what_failed_is_followed_by_nobody() -> None:
    names = [f"n{i}" for i in range(12)]
    entered = [entry(name, 0.5, how=how) for name in names for how in ("fp32", "int8")]
    stand = Stopwatch(dict.fromkeys(names[1:], 1.0), failing=["n0"])
    found = race(entered, stand, COURSE, Budget.parse("peak_mb<=30"), 0.1, Quiet())
    by = {s.entry.key: s for s in found.standings}
    assert by["n0-32px-int8"].dropped == ("round 1: not timed, as fp32 could not be measured")
    late = [key for key, s in by.items() if key.endswith("int8") and s.record is not None]
    assert len(late) == 4  # those that are left in fp32: all are over by more than the bound
    whole = Stopwatch(dict.fromkeys(names, 1.0))
    race(entered, whole, COURSE[2:], None, 0.1, Quiet())
    assert len(whole.asked) == 1  # in one round there is no later one to join
