"""Who fits, who is ahead of whom, and who goes on."""

from __future__ import annotations

import math
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.budget import Budget
from edgekd.scouting.ranking import FINALISTS, Standing, axis_of, cut, front, ranked, verdict

MADE = runpy.run_path(str(Path(__file__).parent / "entrants.py"))
entry, record, standing = MADE["entry"], MADE["record"], MADE["standing"]


@pytest.mark.parametrize(
    ("bounds", "fits"),
    [
        ("p50<=12ms", "fits"),
        ("p50<=10.5ms", "tight"),  # holds, with less than a tenth to spare
        ("p50<=10ms", "tight"),  # the bound is inside of the interval
        ("p50<=9ms", "over"),
        ("p95<=13ms", "fits"),
        ("p99<=9ms", "over"),  # too few runs, and the median is over
        ("p99<=13ms", "unknown"),  # too few runs, and the median is within
        ("fps>=80", "fits"),
        ("fps>=95", "tight"),
        ("fps>=200", "over"),
        ("peak_mb<=80", "fits"),
        ("peak_mb<=71", "tight"),
        ("peak_mb<=60", "over"),
        ("size_mb<=2, p50<=9ms", "over"),  # the worst of all clauses
        ("size_mb<=2, p99<=13ms", "unknown"),
        ("j_per_inf<=1mJ", "unknown"),
        ("top1>=90%, p50<=12ms", "fits"),  # a scout trains nothing
    ],
)
def test_an_entry_is_held_against_the_costs(bounds: str, fits: str) -> None:
    found = verdict(record(10.0), Budget.parse(bounds), 0.1)
    assert found.fits == fits
    assert (found.nearness > 0) == (fits == "over" or bounds == "p50<=10ms")


def test_a_percentile_of_too_few_runs_says_that_its_median_is_over() -> None:
    found = verdict(record(10.0, runs=30), Budget.parse("p95<=5ms"), 0.1)
    assert found.fits == "over"
    assert found.nearness == pytest.approx(1.01, abs=0.01)
    (ruling,) = found.rulings
    assert ruling.figure.value is None
    assert ruling.figure.why == "n/a (30 runs, need 90); the median alone is 10ms"


def test_without_a_budget_all_fit() -> None:
    assert verdict(record(10.0), None, 0.1).fits == "fits"
    assert verdict(record(10.0), Budget.parse("top1>=90%"), 0.1).rulings == ()


def test_the_best_first() -> None:
    field = [
        standing("far", 0.9, 30.0),
        standing("small", 0.5, 1.0),
        standing("near", 0.8, 11.0),
        Standing(entry("broken"), failed="no such operator"),
        standing("best", 0.7, 5.0),
    ]
    order = [s.entry.candidate.name for s, _ in ranked(field, Budget.parse("p50<=10ms"), 0.1)]
    assert order == ["best", "small", "near", "far", "broken"]


def test_the_front_is_what_nobody_beats() -> None:
    field = [
        standing("fast", 0.5, 1.0),
        standing("good", 0.8, 5.0),
        standing("beaten", 0.7, 6.0),
        standing("even", 0.5, 1.1),
        standing("nameless", None, 0.1),
        replace(standing("eighth", 0.5, 0.5), entry=entry("eighth", 0.5, how="int8")),
    ]
    assert front(field) == {"fast-32px", "good-32px", "eighth-32px-int8"}


def test_a_cut_keeps_half_of_what_fits_and_the_front_and_says_why_the_others_go() -> None:
    field = [standing(f"n{i}", 0.5 + i / 100, 1.0 + i) for i in range(8)]
    field += [standing(f"slow{i}", 0.5 + i / 100, 3.5 + i) for i in range(8)]
    found = cut(field, Budget.parse("p50<=6ms"), 0.1)
    kept = {s.entry.candidate.name for s in found.kept}
    assert {f"n{i}" for i in range(8)} <= kept
    assert len(kept) == 8
    assert (
        found.dropped["slow0-32px"] == "n0-32px promises no less and is faster: 1ms against 3.5ms"
    )
    over = cut([standing(f"n{i}", 0.5 + i / 100, 7.0 + i) for i in range(10)], *_bound("6ms"))
    assert [s.entry.candidate.name for s in over.kept] == ["n0", "n1", "n2", "n3", "n4"]
    assert over.dropped["n9-32px"] == "168% beyond p50<=6ms, others are nearer"


def test_of_what_is_hopelessly_over_a_few_are_left() -> None:
    field = [standing(f"n{i}", 0.5 + i / 100, 11.0 + 3 * i) for i in range(20)]
    found = cut(field, *_bound("6ms"))
    assert [s.entry.candidate.name for s in found.kept] == ["n0", "n1", "n2", "n3"]
    assert found.over == set(found.dropped)


def test_who_promises_more_is_counted_truly() -> None:
    field = [standing(f"n{i}", 0.6 + i / 100, 2.0 + i / 10, half=2.0) for i in range(10)]
    found = cut(field, *_bound("30ms"))
    assert len(found.kept) == 10  # all on the front
    level = [standing(f"m{i}", 0.6 - i / 100, 3.0 + i / 10, half=2.0) for i in range(3)]
    found = cut([*field, *level], *_bound("30ms"))
    assert found.dropped["m2-32px"] == "10 others promise at least 60.0%, against 58.0%"


def test_what_is_dominated_goes_before_what_is_over() -> None:
    field = [standing(f"n{i}", 0.9, 1.0 + i) for i in range(5)]
    field += [standing(f"over{i}", 0.95 + i / 100, 11.0 + i) for i in range(3)]
    kept = [s.entry.candidate.name for s in cut(field, *_bound("10ms")).kept]
    assert kept == ["n0", "over0", "over1", "over2"]


def test_what_only_seems_faster_dominates_nobody() -> None:
    close = [standing(f"n{i}", 0.9, 10.0 + i / 100, half=1.0) for i in range(12)]
    dropped = cut(close, None, 0.1).dropped
    assert len(dropped) == 6
    assert all(why == "6 others promise at least 90.0%, against 90.0%" for why in dropped.values())


def test_one_that_is_over_does_not_dominate_what_fits() -> None:
    light = Standing(entry("light", 0.5), record(9.0, peak=50.0), rounds=1)
    heavy = [
        Standing(entry(f"heavy{i}", 0.9), record(1.0 + i, peak=90.0), rounds=1) for i in range(9)
    ]
    found = cut([*heavy, light], Budget.parse("peak_mb<=60"), 0.1)
    assert found.kept[0] is light


def test_the_axis_is_the_latency_that_the_budget_names() -> None:
    assert axis_of(None) == axis_of(Budget.parse("top1>=90%")) == "p50"
    assert axis_of(Budget.parse("top1>=90%, p95<=3ms, p50<=1ms")) == "p95"


@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.floats(0.1, 0.99)), st.floats(0.1, 100.0)), min_size=1
    ),
    st.floats(0.2, 50.0),
)
def test_a_cut_loses_nobody_and_never_the_best(
    field: list[tuple[float | None, float]], bound: float
) -> None:
    budget = Budget.parse(f"p50<={bound:.3f}ms")
    entered = [standing(f"n{i}", *one) for i, one in enumerate(field)]
    found = cut(entered, budget, 0.1)
    kept = {s.entry.key for s in found.kept}
    assert kept | set(found.dropped) == {s.entry.key for s in entered}
    assert not kept & set(found.dropped)
    assert len(kept) >= min(len(entered), FINALISTS, math.ceil(len(entered) / 2))
    best = max(
        (s for s, v in ranked(entered, budget, 0.1) if v is not None and v.fits != "over"),
        key=lambda s: -1.0 if s.prior is None else s.prior,
        default=None,
    )
    if best is not None and best.prior is not None:
        assert any(s.prior is not None and s.prior >= best.prior for s in found.kept)


def _bound(text: str) -> tuple[Budget, float]:
    return Budget.parse(f"p50<={text}"), 0.1
