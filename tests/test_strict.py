"""Recipes are read strictly: what fits is taken as it is, the rest is refused in words."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.errors import RecipeError
from edgekd.recipe import Recipe, Train, recipe_from
from edgekd.strict import (
    above,
    at_least,
    check_ranges,
    freeze,
    line_of,
    one_of,
    override,
    term_table,
)

FORMULA = st.text("ce+kd*.01 e-")
"""Nearly formulas: they reach further into the parser than arbitrary text does."""


@given(st.text() | st.builds("{}={}".format, st.sampled_from(["method", "train.lr"]), FORMULA))
@settings(deadline=None)
def test_any_override_makes_a_recipe_or_a_recipe_error(text: str) -> None:
    try:
        made = recipe_from({}, [text])
    except RecipeError:
        return
    assert isinstance(made, Recipe)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.epochs=3", {"train": {"epochs": 3}}),
        (" train.lr = 1e-3 ", {"train": {"lr": 0.001}}),
        ("export.float_input=true", {"export": {"float_input": True}}),
        ("data.source=digits", {"data": {"source": "digits"}}),
        ("data.source=./a b", {"data": {"source": "./a b"}}),
        ('data.source="1"', {"data": {"source": "1"}}),
        ("data.source=", {"data": {"source": ""}}),
        ("a.b=x=y", {"a": {"b": "x=y"}}),
        ('train.trackers=["wandb"]', {"train": {"trackers": ["wandb"]}}),
        ("method=ce + 0.9*kd", {"method": {"ce": {"weight": 1.0}, "kd": {"weight": 0.9}}}),
        ("method.kd=0..1", {"method": {"kd": "0..1"}}),
        ("method.kd.temperature=2", {"method": {"kd": {"temperature": 2}}}),
    ],
)
def test_an_override_is_a_toml_value_or_else_a_text(text: str, expected: dict[str, Any]) -> None:
    table: dict[str, Any] = {}
    override(table, text)
    assert table == expected


def test_an_override_of_an_option_keeps_the_weight_that_stood_alone() -> None:
    table: dict[str, Any] = {"method": {"kd": 0.9}}
    override(table, "method.kd.temperature=2")
    assert table == {"method": {"kd": {"weight": 0.9, "temperature": 2}}}


def test_an_override_leaves_the_tables_it_was_given_alone() -> None:
    given = {"train": {"epochs": 3}}
    recipe_from(given, ["train.epochs=4", "train.lr=1.0"])
    assert given == {"train": {"epochs": 3}}


@pytest.mark.parametrize("text", ["epochs", "=1", ".=1", "train..lr=1", "train.=1"])
def test_an_override_without_a_key_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RecipeError, match=r"expected key=value, such as train.epochs=10"):
        override({}, text)


@pytest.mark.parametrize(
    ("value", "weight"),
    [(2, 2.0), (0.5, 0.5), ([0, 1], [0.0, 1.0]), ([3], 3.0), ({}, 1.0), ({"weight": 2}, 2.0)],
)
def test_a_term_is_its_weight_or_a_table(value: Any, weight: Any) -> None:
    assert repr(term_table("kd", value)["weight"]) == repr(weight)  # 2 and 2.0 hash differently


@pytest.mark.parametrize("weight", ["1", True, [], [0, 1, 2], [0, "1"], math.inf, 10**400, {}])
def test_a_weight_that_is_no_number_is_refused(weight: Any) -> None:
    with pytest.raises(RecipeError, match=r"method.kd.weight is .*; expected a number, or two"):
        term_table("kd", {"weight": weight})


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("epochs", "3", "a whole number"),
        ("epochs", 1.5, "a whole number"),
        ("epochs", True, "a whole number"),
        ("lr", "fast", "a number"),
        ("lr", False, "a number"),
        ("lr", math.nan, "a number"),
        ("lr", 10**400, "a number"),
        ("optimizer", 1, "a text"),
        ("trackers", "wandb", "a list of texts"),
        ("trackers", [1], "a text"),
    ],
)
def test_a_value_of_another_type_is_refused(key: str, value: Any, wanted: str) -> None:
    with pytest.raises(RecipeError, match=rf"train\.{key} is .*; expected {wanted}") as refused:
        freeze(Train, {key: value}, "train")
    assert refused.value.key == f"train.{key}"


def test_true_or_false_is_not_a_number() -> None:
    with pytest.raises(RecipeError, match=r"export\.float_input is 1; expected true or false"):
        recipe_from({"export": {"float_input": 1}})


def test_a_whole_number_serves_as_a_number_and_a_list_as_a_tuple() -> None:
    made = freeze(Train, {"lr": 1, "trackers": ["wandb"]})
    assert repr(made.lr) == "1.0"
    assert made.trackers == ("wandb",)


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [("epohcs", "Did you mean epochs?"), ("zzz", "There are: epochs, batch_size, lr, .*trackers")],
)
def test_an_unknown_key_is_answered_with_the_nearest(key: str, suggestion: str) -> None:
    with pytest.raises(RecipeError, match=rf"unknown key 'train.{key}'. {suggestion}"):
        freeze(Train, {key: 1}, "train")


def test_a_value_where_a_table_belongs_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"train is 3; expected a table \[train\]"):
        recipe_from({"train": 3})


@pytest.mark.parametrize(
    ("rule", "fits", "does_not"),
    [(at_least(1), 1, 0), (above(0), 0.1, 0), (one_of("a", "b"), "b", "c")],
)
def test_a_rule_draws_its_line(rule: Any, fits: Any, does_not: Any) -> None:
    assert rule[0](fits)
    assert not rule[0](does_not)


def test_a_field_out_of_range_is_named_with_the_range() -> None:
    train = Train()
    check_ranges(train, epochs=at_least(1))
    with pytest.raises(RecipeError, match="epochs is 30; expected at least 31") as refused:
        check_ranges(train, lr=above(0), epochs=at_least(31))
    assert refused.value.key == "epochs"


TEXT = """
method = "ce" # a comment = here
data.size = 8

[train]
# epochs = 1
epochs = 2
[ teach ]
epochs = 3
export = { opset = 18,
  samples = 4 }

[method.kd]
weight = 0.5
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("method", 2),
        ("data.size", 3),
        ("train", 5),
        ("train.epochs", 7),
        ("teach.epochs", 9),
        ("teach.export.opset", 10),
        ("method.kd.weight", 14),
        ("profile.threads", 0),
    ],
)
def test_a_key_is_found_on_its_line(key: str, line: int) -> None:
    assert line_of(TEXT, key) == line
