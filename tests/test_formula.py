"""The text of a method: names with weights, ramps and parentheses, or a sentence that says no."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.errors import RecipeError
from edgekd.formula import DEEPEST, parse_method

FORMULA = st.text("ce+kd*.01 (e)-")
"""Nearly formulas: they reach further into the reader than arbitrary text does."""


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("ce", {"ce": 1.0}),
        ("ce + 0.9*kd + at", {"ce": 1.0, "kd": 0.9, "at": 1.0}),
        ("0..1*kd", {"kd": [0.0, 1.0]}),
        (" .5 .. 1e-3 * kd ", {"kd": [0.5, 0.001]}),
        ("-1*kd", {"kd": -1.0}),
    ],
)
def test_a_formula_is_names_with_weights_or_ramps(text: str, weights: dict[str, Any]) -> None:
    assert parse_method(text) == {name: {"weight": weight} for name, weight in weights.items()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a term"),
        ("ce +", "'' is not a term"),
        ("0.9*", "'' is not a term"),
        ("0.9", r"a weight is followed by \* and a term"),
        ("ce kd", "'kd' is not expected where it stands"),
        ("kd + 2*kd", "'kd' stands there twice; add up the weights"),
        ("mgd(mgd)", "'mgd' stands there twice"),
        ("mgd(kd", "a parenthesis is not closed"),
        ("mgd()", r"'\)' is neither a term nor a weight"),
        ("kd)", r"'\)' is not expected where it stands"),
        ("(kd)", r"'\(' is neither a term nor a weight"),
        ("much*kd", "weight 'much' is no number. Write for example"),
        ("0..y*kd", "'y' is neither a term nor a weight"),
        ("nan*kd", "weight 'nan' is no number"),
        ("1e999*kd", "weight '1e999' is no number"),
        ("0..1..2*kd", r"a weight is followed by \* and a term"),
    ],
)
def test_a_wrong_formula_is_refused_with_the_part_at_fault(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as refused:
        parse_method(text)
    assert refused.value.key == "method"


@given(st.text() | FORMULA)
@settings(deadline=None)
def test_any_text_is_a_formula_or_a_recipe_error(text: str) -> None:
    try:
        found = parse_method(text)
    except RecipeError:
        return
    assert found
    for name, table in found.items():
        ends = table["weight"] if isinstance(table["weight"], list) else [table["weight"]]
        assert name.isidentifier()
        assert all(math.isfinite(end) for end in ends)


@pytest.mark.parametrize(
    ("text", "over"),
    [
        ("mgd(ce)", {"mgd": ["ce"]}),
        ("mgd(ce + 0.9*kd) + at", {"mgd": ["ce", "kd"]}),
        ("a + 0.5*b(c(d + e) + f)", {"b": ["c", "d", "e", "f"], "c": ["d", "e"]}),
    ],
)
def test_parentheses_say_what_a_term_changes(text: str, over: dict[str, list[str]]) -> None:
    assert {n: t["over"] for n, t in parse_method(text).items() if "over" in t} == over


def test_a_weight_stands_before_what_wraps_and_inside() -> None:
    found = parse_method("2*mgd(0..1*kd)")
    assert found == {"mgd": {"weight": 2.0, "over": ["kd"]}, "kd": {"weight": [0.0, 1.0]}}


@pytest.mark.parametrize("depth", [DEEPEST, DEEPEST + 1, 200])
def test_only_so_many_parentheses_inside_each_other(depth: int) -> None:
    text = "(".join(f"t{i}" for i in range(depth + 1)) + ")" * depth
    if depth <= DEEPEST:
        assert len(parse_method(text)) == depth + 1
        return
    with pytest.raises(RecipeError, match=f"more than {DEEPEST} parentheses"):
        parse_method(text)
