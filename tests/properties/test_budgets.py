"""A budget is what was written: every clause, number and unit comes back from its text."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from edgekd.budget import METRICS, Budget, Figure, rule

NUMBERS = st.one_of(
    st.integers(1, 10**9).map(str),
    st.floats(1e-6, 1e9).map(repr),
    st.floats(0.001, 99).map("{:.3f}".format),
    st.builds("{}e{}".format, st.integers(1, 99), st.integers(-3, 9)),
)
SPACE = st.sampled_from(["", " ", "  "])


@st.composite
def clauses(draw: st.DrawFn, metric: str) -> str:
    units = METRICS[metric].units
    unit = draw(st.sampled_from(list(units)))
    number = draw(st.floats(0.001, 99).map("{:.3f}".format) if unit == "%" else NUMBERS)
    parts = (metric, METRICS[metric].sense, number, unit)
    return "".join(f"{draw(SPACE)}{part}" for part in parts) + draw(SPACE)


BUDGETS = st.lists(st.sampled_from(list(METRICS)), min_size=1, unique=True).flatmap(
    lambda names: st.tuples(*map(clauses, names)).map(",".join)
)


@given(BUDGETS)
def test_a_budget_is_the_same_after_writing_and_reading(text: str) -> None:
    budget = Budget.parse(text)
    again = Budget.parse(str(budget))
    assert again == budget
    assert str(again) == str(budget)
    for part, clause in zip(text.split(","), budget.clauses, strict=True):
        bare = "".join(part.split())
        assert clause.text == bare
        _, sense, rest = bare.partition(clause.sense)
        number = rest.rstrip("%/" + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
        unit = METRICS[clause.metric].units[rest.removeprefix(number)]
        assert sense
        assert clause.bound == unit * float(number)


@given(
    BUDGETS,
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.floats(0, 1e6), min_size=2, max_size=2),
)
def test_a_clause_never_holds_where_an_end_of_the_interval_breaks_it(
    text: str, value: float, away: list[float]
) -> None:
    for clause in Budget.parse(text).clauses:
        low, high = value - away[0], value + away[1]
        ruling = rule(clause, Figure(value, low, high))
        bad = high if clause.sense == "<=" else low
        within = bad <= clause.bound if clause.sense == "<=" else bad >= clause.bound
        assert (ruling.state == "holds") == within
        assert (ruling.excess == 0) or not within
        assert not math.isnan(ruling.excess)
