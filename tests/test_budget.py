"""The budget: what it reads, what it refuses, and how it rules."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.budget import (
    METRICS,
    Budget,
    Clause,
    Figure,
    bad_end,
    figures_of,
    rule,
    rule_all,
    shown,
)
from edgekd.errors import UsageError


@pytest.mark.parametrize(
    ("text", "metric", "bound"),
    [
        ("p95<=30ms", "p95", 30.0),
        ("p50 <= 900 us", "p50", 0.9),
        ("p99<=1.5s", "p99", 1500.0),
        ("mean<=1e3us", "mean", 1.0),
        ("top1>=90%", "top1", 0.9),
        ("top1_drop<=0%", "top1_drop", 0.0),
        ("top1_drop<=1%", "top1_drop", 0.01),
        ("peak_mb<=300", "peak_mb", 300.0),
        ("size_mb<=.5MB", "size_mb", 0.5),
        ("j_per_inf<=5mJ", "j_per_inf", 0.005),
        ("fps>=30/s", "fps", 30.0),
    ],
)
def test_it_reads_a_clause_into_the_metrics_own_unit(text: str, metric: str, bound: float) -> None:
    (clause,) = Budget.parse(text).clauses
    assert clause.metric == metric
    assert clause.bound == pytest.approx(bound)
    assert clause.text == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no clause"),
        ("p95", "no clause"),
        ("p95<=30ms,", "no clause"),
        ("p95<=30ms peak_mb<=3", "no comma between its clauses"),
        ("p95<=30ms;size_mb<=1", "no comma between its clauses"),
        ("p95<=30ms; ", "no comma between its clauses"),
        ("p95<=", "p95 with no number; expected a number more than 0, and its unit: us or ms or s"),
        ("size_mb<=", "size_mb with no number"),
        ("top1>=%", "no number; expected a number more than 0 and at most 100, and its unit: %"),
        ("p59<=30ms", "Did you mean p99 or p95"),
        ("latency<=30ms", "There are: p50, p95"),
        ("p95<30ms", "expected p95<="),
        ("p95>=30ms", "is to be small"),
        ("top1<=90%", "is to be large"),
        ("p95<=30", "no unit; expected us or ms or s"),
        ("p95<=30min", "'min'"),
        ("top1>=0.9", "expected %"),
        ("top1>=101%", "at most 100"),
        ("peak_mb<=300MiB", "'MiB'"),
        ("p95<=0ms", "more than 0"),
        ("p95<=-1ms", "more than 0"),
        ("p95<=ms", "more than 0"),
        ("p95<=1e999ms", "'1e999', which is too large"),
        ("fps>=1e400", "'1e400', which is too large"),
        ("top1>=1e400%", "at most 100"),
        ("p95<=inf", "'inf'"),
        ("p95<=1e-323us", "more than 0"),
        ("p95<=\uff11\uff10ms", "p95"),
        ("p95<=1_000ms", "p95"),
        ("p95<=3ms, p95<=4ms", "twice"),
    ],
)
def test_it_refuses_what_is_no_budget(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("[", r"\[")):
        Budget.parse(text)


def test_its_text_reads_back_as_the_same_budget() -> None:
    budget = Budget.parse("p95 <= 30 ms,top1_drop<=1%,  peak_mb<=300")
    assert str(budget) == "p95<=30ms, top1_drop<=1%, peak_mb<=300"
    assert Budget.parse(str(budget)) == budget
    assert [clause.metric for clause in budget.costs] == ["p95", "peak_mb"]
    assert [clause.metric for clause in budget.worth] == ["top1_drop"]


@given(st.text(max_size=40))
def test_any_text_is_a_budget_or_wrong_usage(text: str) -> None:
    try:
        budget = Budget.parse(text)
    except UsageError:
        return
    assert all(math.isfinite(clause.bound) for clause in budget.clauses)


BELOW, ABOVE = Clause("p95", 30.0, "p95<=30ms"), Clause("top1", 0.9, "top1>=90%")


@pytest.mark.parametrize(
    ("clause", "figure", "state", "excess"),
    [
        (BELOW, Figure(29.0, 28.0, 30.0), "holds", 0.0),
        (BELOW, Figure(29.0, 28.0, 31.5), "open", 0.05),
        (BELOW, Figure(31.0, 29.0, 33.0), "open", 0.1),
        (BELOW, Figure(33.0, 31.0, 36.0), "fails", 0.2),
        (BELOW, Figure(30.0), "holds", 0.0),
        (BELOW, Figure(29.0, why="range n/a (3 runs, need 72)"), "open", 0.0),
        (BELOW, Figure(33.0, why="range n/a (3 runs, need 72)"), "fails", 0.1),
        (BELOW, Figure(None, why="12 runs, need 90"), "unknown", math.inf),
        (ABOVE, Figure(0.95, 0.91, 0.97), "holds", 0.0),
        (ABOVE, Figure(0.92, 0.81, 0.97), "open", 0.1),
        (ABOVE, Figure(0.8, 0.72, 0.85), "fails", 0.2),
    ],
)
def test_a_clause_is_held_against_the_bad_end(
    clause: Clause, figure: Figure, state: str, excess: float
) -> None:
    ruling = rule(clause, figure)
    assert ruling.state == state
    assert ruling.excess == pytest.approx(excess)
    assert ruling.to_dict()["why"] == (figure.why or None)


def test_what_was_not_measured_is_unknown() -> None:
    (ruling,) = rule_all([BELOW], {})
    assert (ruling.state, ruling.figure.why) == ("unknown", "not measured")
    assert bad_end(BELOW, ruling.figure) is None


@pytest.mark.parametrize("metric", METRICS)
def test_a_shown_value_reads_back(metric: str) -> None:
    sense = METRICS[metric].sense
    assert Budget.parse(f"{metric}{sense}{shown(metric, 0.25)}").clauses[0].bound == 0.25


def _record() -> dict[str, Any]:
    known = {"value": 2.0, "lo": 1.9, "hi": 2.2, "method": "order statistics"}
    unknown = {"value": None, "lo": None, "hi": None, "method": "n/a (12 runs, need 459)"}
    return {
        "timing": {
            "median": known,
            "p95": known,
            "p99": unknown,
            "mean": 2.0,
            "mean_interval": [1.6, 2.5],
        },
        "policy": {"batch_size": 4},
        "memory": {"peak_rss_bytes": 50_000_000},
        "artifact": {"size_bytes": 300_000},
        "energy": None,
    }


def test_figures_of_a_record() -> None:
    found = figures_of(_record())
    assert found["p95"] == Figure(2.0, 1.9, 2.2)
    assert found["p99"] == Figure(None, why="n/a (12 runs, need 459)")
    assert found["fps"] == Figure(2000.0, 1600.0, 2500.0)  # 4 images in 2 ms
    assert found["mean"] == Figure(2.0, 1.6, 2.5)
    assert (found["peak_mb"].why, found["p95"].why) == ("", "")
    unsure, record = {"value": 2.0, "lo": None, "hi": None, "method": "range n/a"}, _record()
    record["timing"] |= {"p95": unsure, "mean_interval": None}
    assert [figures_of(record)[name].why[:9] for name in ("p95", "mean", "fps")] == 3 * [
        "range n/a"
    ]
    assert (found["peak_mb"].value, found["size_mb"].value) == (50.0, 0.3)
    assert found["j_per_inf"].why == "the device has no meter"
    metered = _record() | {"energy": {"j_per_inference": 0.2, "j_interval": [0.1, 0.3]}}
    assert figures_of(metered)["j_per_inf"] == Figure(0.2, 0.1, 0.3)
