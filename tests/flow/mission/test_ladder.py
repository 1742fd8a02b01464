"""The ladder: the same figures decide the same, in the order that was promised."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgekd.budget import Budget
from edgekd.flow.mission.ladder import next_plan
from edgekd.flow.mission.overview import left_out, overview
from edgekd.flow.mission.plans import Attempt, Decision, Limits, Made, Other, Plan
from edgekd.flow.mission.scouted import expected, factors_of, nearest, students_of
from tests.flow.mission.figures import LIMITS, auto, row, table, tried

BUDGET = Budget.parse("p95<=30ms, top1_drop<=1%")
BIG, MIDDLE, SMALL = row("big", 22, 0.75), row("middle", 15, 0.72), row("small", 8, 0.65)
STUDENTS = students_of(table(BIG, MIDDLE, SMALL, row("huge", 40, 0.8)))
FAST = {"p95": (20.0, 19.0, 21.0)}
GOOD, BAD = {"top1_drop": (0.002, -0.004, 0.008)}, {"top1_drop": (0.03, 0.02, 0.04)}
SLOW = {"p95": (34.1, 33.8, 34.6)}


def decide(*attempts: Attempt, limits: Limits = LIMITS, budget: Budget = BUDGET) -> Decision:
    return next_plan(STUDENTS, budget, attempts, limits)


def planned(*attempts: Attempt, limits: Limits = LIMITS, budget: Budget = BUDGET) -> Plan:
    plan = decide(*attempts, limits=limits, budget=budget).plan
    assert plan is not None
    return plan


FIRST = planned()


# ---- the first choice ----


def test_the_most_accurate_that_fits_with_margin_comes_first() -> None:
    assert (FIRST.network, FIRST.rung, FIRST.precision, FIRST.epochs) == (
        "big",
        "first",
        "auto",
        10,
    )
    assert "prior 75.0 % (published)" in FIRST.why
    assert "3 of 4" in FIRST.why
    assert "p95 up to 26.93ms of at most 30ms" in FIRST.why
    assert planned(limits=replace(LIMITS, margin=0.2)).network == "middle"


def test_without_the_margin_if_need_be() -> None:
    plan = planned(budget=Budget.parse("p95<=10ms"))
    assert plan.network == "small"
    assert "barely" in plan.why


def test_nothing_fits() -> None:
    found = decide(budget=Budget.parse("p95<=1ms"))
    assert found.plan is None
    assert "nearest is small at 32 px in fp32: p95 up to 9.792ms of at most 1ms" in found.why
    near = nearest(STUDENTS, Budget.parse("p95<=1ms"))
    assert near is not None
    assert near[0].network == "small"


def test_no_student_is_larger_than_its_teacher_in_both() -> None:
    tiny = replace(LIMITS, largest=(15_000, 15_000_000))
    assert planned(limits=tiny).network == "middle"
    assert planned(limits=replace(LIMITS, largest=(22_000, 1))).network == "big"  # in one of them
    found = decide(limits=replace(LIMITS, largest=(1, 1)))
    assert found.plan is None
    assert "smaller than the teacher" in found.why


def test_a_rate_and_a_size_are_bounds_as_well() -> None:
    assert planned(budget=Budget.parse("size_mb<=1")).network == "small"
    assert planned(budget=Budget.parse("fps>=60")).network == "middle"
    assert decide(budget=Budget.parse("peak_mb<=10")).plan is None
    assert planned(budget=Budget.parse("top1>=90%")).network == "huge"


def test_what_the_scout_does_not_measure_is_left_to_the_attempt() -> None:
    assert planned(budget=Budget.parse("j_per_inf<=1mJ, p95<=30ms")).network == "big"


def test_without_priors_the_largest_that_fits() -> None:
    students = students_of(table(row("a", 10), row("b", 20), row("c", 5)))
    found = next_plan(students, BUDGET, [], LIMITS)
    assert found.plan is not None
    assert found.plan.network == "b"
    assert "no prior, 20 M multiply-accumulates" in found.why


# ---- a cost does not hold ----


def test_int8_with_what_the_budget_leaves() -> None:
    budget = Budget.parse("p95<=30ms, top1_drop<=3%")
    refused = Other("int8", refused="it loses too much", inaccurate=True)
    last = tried(budget, FIRST, SLOW | GOOD, auto("fp32", 1.0, 0.0, refused))
    plan = planned(last, budget=budget)
    assert (plan.network, plan.rung, plan.precision) == ("big", "precision", "int8")
    assert plan.max_drop == pytest.approx(0.028)
    assert "1 point of accuracy to lose, and the budget leaves 2.8 points" in plan.why
    assert plan.key == FIRST.key  # the same training


def test_int8_with_no_more_to_lose_is_not_tried_again() -> None:
    refused = Other("int8", refused="it loses too much", inaccurate=True)
    last = tried(BUDGET, FIRST, SLOW | GOOD, auto("fp32", 1.0, 0.0, refused))
    plan = planned(last)
    assert (plan.network, plan.rung) == ("middle", "smaller")


def test_int8_that_the_scout_found_too_slow_is_not_tried() -> None:
    budget = Budget.parse("p95<=30ms, top1_drop<=3%")
    students = students_of(table(BIG, row("big", 40, 0.75, precision="int8"), SMALL))
    refused = Other("int8", refused="it loses too much", inaccurate=True)
    last = tried(budget, FIRST, SLOW | GOOD, auto("fp32", 1.0, 0.0, refused))
    found = next_plan(students, budget, [last], LIMITS)
    assert found.plan is not None
    assert found.plan.network == "small"


def test_int8_that_is_no_faster_helps_where_only_the_size_is_short() -> None:
    budget = Budget.parse("size_mb<=1, top1_drop<=1%")
    slower = Other("int8", ratio=1.2, size_bytes=800_000)
    plan = Plan("big", 32, 10, "auto", 0.01)
    last = tried(budget, plan, {"size_mb": (2.2, 2.2, 2.2)} | GOOD, auto("fp32", 1.0, 0.0, slower))
    found = planned(last, budget=budget)
    assert (found.rung, found.precision, found.max_drop) == ("precision", "int8", 0.01)


def test_a_precision_that_was_asked_for_is_kept_to() -> None:
    limits = replace(LIMITS, precision="fp32")
    first = planned(limits=limits)
    assert first.precision == "fp32"
    second = planned(tried(BUDGET, first, SLOW | GOOD), limits=limits)
    assert (second.network, second.precision) == ("middle", "fp32")


def test_then_a_smaller_student_by_corrected_figures() -> None:
    """It took 1.8 times what was scouted, so that ``middle`` is expected to be over, too."""
    slow = {"p95": (1.8 * 26.4, 47.0, 48.0)}
    last = tried(BUDGET, FIRST, slow | GOOD)
    assert factors_of([last], STUDENTS) == {"p95": pytest.approx(1.8)}
    plan = planned(last)
    assert (plan.network, plan.rung) == ("small", "smaller")
    assert "corrected by what was measured" in plan.why
    assert "p95 up to 17.63ms of at most 30ms" in plan.why


def test_a_lower_resolution_is_called_so() -> None:
    students = students_of(table(BIG, row("big", 12, 0.7, size=24), SMALL))
    found = next_plan(students, BUDGET, [tried(BUDGET, FIRST, SLOW | GOOD)], LIMITS)
    assert found.plan is not None
    assert (found.plan.network, found.plan.size, found.plan.rung) == ("big", 24, "resolution")
    assert "a lower resolution" in found.why


def test_what_is_not_repeatable_is_a_cost_that_does_not_hold() -> None:
    last = tried(BUDGET, FIRST, FAST | GOOD, again=SLOW)
    assert last.state == "fails"
    plan = planned(last)
    assert (plan.network, plan.rung) == ("middle", "smaller")
    assert "p95 34.1ms [33.8ms, 34.6ms] against p95<=30ms" in plan.why


def test_once_int8_lost_too_much_students_that_need_it_come_last() -> None:
    students = students_of(
        table(BIG, row("wide", 60, 0.74), row("wide", 20, 0.74, precision="int8"), SMALL)
    )
    refused = Other("int8", refused="it loses too much", inaccurate=True)
    last = tried(BUDGET, FIRST, SLOW | GOOD, auto("fp32", 1.0, 0.0, refused))
    found = next_plan(students, BUDGET, [last], LIMITS)
    assert found.plan is not None
    assert found.plan.network == "small"
    second = tried(BUDGET, found.plan, SLOW | GOOD)
    third = next_plan(students, BUDGET, [last, second], replace(LIMITS, margin=0))
    assert third.plan is None
    assert "no other student fits" in third.why


# ---- the accuracy does not hold ----


def test_a_higher_precision_that_fits() -> None:
    other = Other("fp32", ratio=1.0)
    made = auto("int8", 0.8, 0.05, other)
    last = tried(BUDGET, FIRST, FAST | BAD, made)
    plan = planned(last)
    assert (plan.rung, plan.precision, plan.key) == ("precision", "fp32", FIRST.key)
    slow = tried(BUDGET, FIRST, FAST | BAD, auto("int8", 0.5, 0.05, other))
    assert planned(slow).rung == "longer"  # 20 / 0.5 is over 30
    little = tried(BUDGET, FIRST, FAST | BAD, auto("int8", 0.8, 0.005, other))
    assert planned(little).rung == "longer"  # int8 is not to blame


def test_twice_as_long_but_once_then_the_next_best() -> None:
    first = tried(BUDGET, FIRST, FAST | BAD)
    longer = planned(first)
    assert (longer.network, longer.rung, longer.epochs) == ("big", "longer", 20)
    assert longer.key == "big-32px-20ep"
    second = tried(BUDGET, longer, FAST | BAD)
    other = planned(first, second)
    assert (other.network, other.rung, other.epochs) == ("middle", "smaller", 10)
    third = tried(BUDGET, other, FAST | BAD)
    assert planned(first, second, third).epochs == 20


def test_an_accuracy_that_is_open_is_not_shown_to_hold() -> None:
    vague = {"top1_drop": (0.005, -0.02, 0.03)}
    assert planned(tried(BUDGET, FIRST, FAST | vague)).rung == "longer"


# ---- the end ----


def test_what_could_not_be_made_is_left() -> None:
    plan = planned(Attempt(FIRST, "refused", refused="the method does not suit it"))
    assert (plan.network, plan.rung) == ("middle", "smaller")
    assert "the method does not suit it" in plan.why


def test_no_more_than_so_many() -> None:
    found = decide(tried(BUDGET, FIRST, SLOW | GOOD), limits=replace(LIMITS, attempts=1))
    assert found.plan is None
    assert found.why == "the one attempt is used, and 2 students that should fit were not tried"
    assert (found.more, found.untried) == (True, 2)


def test_every_ladder_ends_and_repeats_nothing() -> None:
    """Whatever fails: each plan is tried once, and the same figures decide the same."""
    for found in (SLOW | GOOD, FAST | BAD, SLOW | BAD, {}):
        attempts: list[Attempt] = []
        limits = replace(LIMITS, attempts=50)
        while (plan := decide(*attempts, limits=limits).plan) is not None:
            assert plan == decide(*attempts, limits=limits).plan
            attempts.append(tried(BUDGET, plan, found, Made("fp32", 1.0)))
        asked = [tuple(sorted(a.plan.asked.items())) for a in attempts]
        assert len(set(asked)) == len(asked)
        assert len(attempts) <= 6
        assert {a.plan.network for a in attempts} <= {"big", "middle", "small"}


# ---- what the scout's figures are worth ----


def unmeasured(name: str, median: float, prior: float) -> dict[str, Any]:
    """A student that was dropped before its tail was known."""
    return row(name, median, prior, p95={"value": None, "lo": None, "hi": None})


def test_one_disturbed_row_makes_nobody_slow() -> None:
    """Its p95 is 5 times its median; that of most is 1.2 times."""
    disturbed = row("disturbed", 3, 0.5, p95={"value": 15.0, "lo": 14.0, "hi": 16.0})
    rows = (row("a", 10, 0.7), row("b", 9, 0.6), disturbed, unmeasured("c", 20, 0.75))
    found = next_plan(students_of(table(*rows)), BUDGET, [], LIMITS)
    assert found.plan is not None
    assert found.plan.network == "c"
    assert "p95 about 24.24ms (from its median) of at most 30ms" in found.why


def test_a_guess_corrects_guesses_and_a_median_what_is_unknown() -> None:
    rows = (unmeasured("c", 20, 0.75), row("a", 10, 0.7), unmeasured("d", 5, 0.6))
    students = students_of(table(*rows))
    plan = Plan("c", 32, 10, "auto", 0.01)
    last = replace(tried(BUDGET, plan, {"p95": (48.0, 47.0, 49.0)} | GOOD), median=22.0)
    factors = factors_of([last], students)
    assert factors["p50"] == pytest.approx(1.1)
    assert "p95" not in factors
    clause = BUDGET.clauses[0]
    ends = {s.network: expected(s.forms[0], clause, factors) for s in students}
    assert ends["a"] == pytest.approx(1.1 * 12.24)  # measured: as far off as the median
    assert ends["d"] == pytest.approx(5.05 * 1.2 * 48 / (20.2 * 1.2))  # guessed: as that guess


def test_a_choice_that_rests_on_figures_that_are_not_stable_says_so() -> None:
    rows = (row("big", 40, 0.8, state="noisy"), row("small", 8, 0.6, state="drifting"))
    found = next_plan(students_of(table(*rows)), BUDGET, [], LIMITS)
    assert "in fp32 (not stable, drifting) (not stable: 1 of 1 that know more and do not fit)" in (
        found.why
    )
    none = next_plan(students_of(table(*rows)), Budget.parse("p95<=1ms"), [], LIMITS)
    assert none.why.endswith(
        "(not stable: 2 of 2 scouted figures; measure again on a quiet device, with --restart)"
    )
    assert "not stable" not in FIRST.why


def test_what_is_left_out_is_said_once() -> None:
    limits = replace(LIMITS, largest=(15_000, 15_000_000))
    assert left_out(STUDENTS, limits) == (
        "2 of 4 scouted students are left out, larger than the teacher (0.015 M parameters, 15 M "
        "multiply-accumulates): huge at 32 px, big at 32 px."
    )
    assert left_out(STUDENTS, LIMITS) == ""


def test_what_the_scout_found_is_said_in_a_line() -> None:
    found = {"rounds": [{"seconds": 41.0}, {"seconds": 54.2}]}
    assert overview(found, STUDENTS, BUDGET, LIMITS) == (
        "scouted 4 students in 95 s: 3 fit with 10% margin; the nearest of the others: huge at 32 "
        "px (p95 up to 48.96ms of at most 30ms)."
    )
