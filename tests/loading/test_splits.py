"""Data is divided once, class by class, and the division depends on nothing but the data."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgekd import plugins
from edgekd.data import Source, Split
from edgekd.errors import DataError, UnknownNameError
from edgekd.loading import open_splits, splits
from edgekd.loading.splits import check_classes, find, hold_out, limited
from edgekd.recipe import Data

TESTED = ["digit number 1", "digit number 23", "digit number 24"]


def drawn(split: Split) -> list[str]:
    return [split.name(i) for i in range(len(split))]


def counts(split: Split) -> list[int]:
    return [int(count) for count in np.bincount(split.targets)]


@pytest.fixture
def sourced(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make ``open_splits`` find these splits."""

    def offer(classes: int, **found: Split) -> None:
        source = Source(tuple("abcdefghij"[:classes]), found)
        monkeypatch.setattr(splits, "find", lambda text: source)

    return offer


def unnamed(targets: Iterable[int]) -> Split:
    return Split(np.array(list(targets), np.int64), lambda i: Image.new("L", (1, 1)), str)


@given(
    st.lists(st.integers(2, 40), min_size=2, max_size=6),
    st.floats(0, 1, exclude_min=True, exclude_max=True),
)
@example([2, 3], 0.99)  # a share that rounds to the whole class
@example([40, 2], 0.001)  # and one that rounds to nothing
@settings(max_examples=60, deadline=None)
def test_holding_out_takes_the_share_of_each_class_and_nothing_twice(
    sizes: list[int], share: float
) -> None:
    whole = unnamed(np.repeat(np.arange(len(sizes)), sizes))
    rest, held = hold_out(whole, share)
    assert sorted(drawn(rest) + drawn(held), key=int) == drawn(whole)
    for size, left, taken in zip(sizes, counts(rest), counts(held), strict=True):
        assert left + taken == size
        assert min(left, taken) >= 1
        assert abs(taken - share * size) <= 1


def test_what_is_held_out_is_not_the_first_of_each_class() -> None:
    _, held = hold_out(unnamed([0] * 50 + [1] * 50), 0.2)
    rows = [int(name) for name in drawn(held)]
    assert rows == sorted(rows)
    assert rows[:10] != list(range(10))
    assert np.mean(rows[:10]) > 10


@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=6).flatmap(
        lambda sizes: st.tuples(st.just(sizes), st.integers(0, sum(sizes) + 5))
    )
)
@settings(max_examples=60, deadline=None)
def test_a_limit_takes_equal_shares_of_the_classes(case: tuple[list[int], int]) -> None:
    sizes, limit = case
    whole = unnamed(np.repeat(np.arange(len(sizes)), sizes))
    kept = limited(whole, limit)
    if limit == 0 or limit >= sum(sizes):
        assert kept is whole
        return
    assert len(kept) == len(set(drawn(kept))) == limit
    found = np.bincount(kept.targets, minlength=len(sizes))
    open_ended = [n for n, size in zip(found, sizes, strict=True) if n < size]
    assert max(open_ended) >= max(found) - 1  # who has fewer has no more to give
    assert max(open_ended) - min(open_ended) <= 1


def test_the_division_depends_on_no_generator_and_no_seed() -> None:
    first = open_splits(Data(limit=100))
    np.random.seed(7)
    torch.manual_seed(7)
    random.seed(7)
    second = open_splits(Data(limit=100))
    for name in ("train", "validation", "test"):
        assert drawn(getattr(first, name)) == drawn(getattr(second, name))


def test_one_set_is_divided_into_three_that_share_nothing() -> None:
    found = open_splits(Data("digits", validation=0.1, test=0.2))
    parts = [set(drawn(part)) for part in (found.train, found.validation, found.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797
    assert [len(part) for part in parts] == [1295, 143, 359]
    assert drawn(found.test)[:3] == TESTED  # other images would make old figures incomparable
    for part in (found.train, found.validation, found.test):
        shares = np.array(counts(part)) / len(part)
        assert np.abs(shares - 0.1).max() < 0.01
    assert (found.labels, found.augment) == (tuple("0123456789"), "shift")


def test_the_test_images_are_the_same_whatever_is_limited_or_validated() -> None:
    usual = drawn(open_splits(Data()).test)
    assert drawn(open_splits(Data(limit=50, validation=0.5)).test) == usual


def test_splits_of_the_source_are_kept_whole(sourced: Callable[..., None]) -> None:
    train, validation, test = unnamed([0, 1] * 5), unnamed([0, 1]), unnamed([0, 1] * 3)
    sourced(2, train=train, validation=validation, test=test)
    found = open_splits(Data())
    assert (found.train, found.validation, found.test) == (train, validation, test)


def test_validation_is_held_out_of_train_where_the_source_has_only_a_test(
    sourced: Callable[..., None],
) -> None:
    train, test = unnamed([0, 1] * 10), unnamed([0, 1] * 3)
    sourced(2, train=train, test=test)
    found = open_splits(Data(validation=0.2))
    assert found.test is test
    assert counts(found.validation) == [2, 2]
    assert sorted(drawn(found.train) + drawn(found.validation), key=int) == drawn(train)


@pytest.mark.parametrize(("asked", "given"), [("auto", "shift+flip"), ("none", "none")])
def test_the_recipe_s_augmentation_wins_over_the_source_s(
    sourced: Callable[..., None], asked: str, given: str
) -> None:
    sourced(2, train=unnamed([0, 1] * 10))
    assert open_splits(Data(augment=asked)).augment == given


def test_two_classes_of_one_name_are_noted(
    sourced: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual list of ImageNet's names has two cranes: the bird and the machine."""
    labels = ("crane", "Dog", "crane", "dog")
    sourced(4, train=unnamed([0, 1, 2, 3] * 10))
    plain = splits.find("")
    monkeypatch.setattr(splits, "find", lambda _: replace(plain, labels=labels))
    notes = open_splits(Data()).notes
    assert "classes of one name: 2 are called crane" in notes
    assert "classes that differ in case alone: Dog and dog" in notes


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"one class \(cat\); expected at least two"):
        check_classes(unnamed([0] * 9), ["cat"])


@pytest.mark.parametrize(("targets", "count"), [([0, 0, 0, 1, 1], 2), ([0, 0, 0], 0)])
def test_a_class_with_too_few_images_is_named(targets: list[int], count: int) -> None:
    with pytest.raises(DataError, match=rf"'dog' has {count} images; expected at least 3"):
        check_classes(unnamed(targets), ["cat", "dog"])


@pytest.mark.parametrize(
    "data", [Data(limit=3), Data(limit=1), Data(test=0.9), Data(test=0.99, limit=2)]
)
def test_a_division_that_leaves_a_class_nothing_to_train_on_is_refused(
    sourced: Callable[..., None], data: Data
) -> None:
    sourced(2, train=unnamed([0, 1] * 5))
    with pytest.raises(DataError, match=r"expected two of each, one to validate with. Raise data"):
        open_splits(data)


def test_the_smallest_set_that_can_be_divided_is(sourced: Callable[..., None]) -> None:
    sourced(2, train=unnamed([0, 1] * 3))
    found = open_splits(Data())
    assert [counts(s) for s in (found.train, found.validation, found.test)] == [[1, 1]] * 3


def test_a_plug_in_is_given_what_stands_behind_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, str]] = []

    def load(kind: str, name: str) -> Callable[[str], Source]:
        def plug_in(rest: str) -> Source:
            asked.append((kind, name, rest))
            return Source((), {})

        return plug_in

    monkeypatch.setattr(plugins, "load", load)
    monkeypatch.setenv("HOME", "/home/me")
    own = ("./digits", "~/pets", "/x", "folder/x")
    for text in ("digits", "hf/org/name", "torchvision/mnist@/data", *own):
        find(text)
    assert asked == [
        ("dataset", "digits", ""),
        ("dataset", "hf", "org/name"),
        ("dataset", "torchvision", "mnist@/data"),
        ("dataset", "folder", "digits"),
        ("dataset", "folder", "/home/me/pets"),
        ("dataset", "folder", "/x"),
        ("dataset", "folder", "folder/x"),
    ]


def test_a_word_that_is_neither_set_nor_path_is_answered_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match=r"no data set 'digit'. Did you mean digits\?"):
        find("digit")
    with pytest.raises(UnknownNameError, match=r"There are: .* a path such as ./images"):
        find("zzz")
