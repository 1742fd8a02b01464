"""Who wins a comparison, and how sure a lead is: seeds and images both have their say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.flow.compare_leads import Right, accuracy, lead
from edgekd.flow.compare_winner import looks_at, winner_of
from edgekd.intervals import mean
from edgekd.schema import COMPARE

N = 2000


def right(*tops: float, n: int = N, seed: int = 0) -> Right:
    """(S, n): each seed is right on images of its own that many times."""
    draw = np.random.default_rng(seed)
    return np.stack([draw.permutation(n) < round(top * n) for top in tops])


def winner(*answers: Right, looks: Sequence[int] = (1,), lacking: str = "") -> dict[str, Any]:
    named = {f"m{index}": each for index, each in enumerate(answers)}
    methods = [
        {
            "method": name,
            "failed": None,
            "validation": {"mean": float(each.mean())},
            "runs": [{"n_validation": each.shape[1]}] * len(each),
        }
        for name, each in named.items()
    ]
    return winner_of(methods, {n: None if n == lacking else a for n, a in named.items()}, looks)


CLOSE = right(0.8065, 0.809, 0.820, n=20_000), right(0.80, 0.80, 0.81, n=20_000)
"""Leads of 0.65, 0.9 and 1 points: more than luck, but not by much."""


def test_a_winner_is_ahead_of_all_beyond_its_interval() -> None:
    found = winner(right(0.70, 0.71, 0.72), right(0.80, 0.81, 0.82), right(0.70, 0.712, 0.72))
    assert found["method"] == "m1"
    assert found["sentence"].startswith("Winner: m1, 81.0% on validation images: ahead of every")
    assert "with 3 seeds on 2,000 images" in found["sentence"]


def test_who_is_not_ahead_of_all_is_none() -> None:
    found = winner(right(0.80, 0.80, 0.82), right(0.80, 0.81, 0.82), right(0.70, 0.71, 0.72))
    assert found["method"] is None
    assert "3 seeds on 2,000 images do not tell it from m0 (+0.3 points [" in found["sentence"]


def test_the_more_are_compared_the_wider_the_interval() -> None:
    ahead, behind = CLOSE
    weak = [right(0.1, 0.1 + 0.01 * place, 0.1, n=20_000) for place in range(4)]
    assert winner(behind, ahead)["method"] == "m1"
    assert winner(behind, ahead, *weak)["method"] is None


def test_seeds_that_agree_say_nothing_of_other_images() -> None:
    """Nine images lost and three won, by every seed: other images could as well say no."""
    one = np.tile(np.arange(200) < 100, (5, 1))
    other = one ^ ((np.arange(200) < 9) | (np.arange(200) >= 197))
    by_seed = mean([6 / 200] * 5, least=1 / 200)
    assert by_seed.lo > 0
    found = lead(one, other, 0.95)
    assert found.lo < 0 < found.value < found.hi
    assert winner(other, one)["method"] is None
    assert winner(np.tile(other, 40), np.tile(one, 40))["method"] == "m1"


def test_a_few_images_that_all_go_one_way_are_no_certainty() -> None:
    other = np.zeros((5, 5000), bool)
    one = other.copy()
    one[:, :4] = True  # as four heads in a row
    assert winner(other, one)["method"] is None


@pytest.mark.parametrize("deviation", [0.0, 0.05])
def test_equal_methods_hardly_ever_have_a_winner(deviation: float) -> None:
    """Of equal worth on all images there are; these images happen to suit one of them."""
    draw, won, leads, rounds = np.random.default_rng(0), 0, 0, 200
    for _ in range(rounds):
        image, answers = draw.normal(3, 2.5, 500), []
        for _method in range(2):
            suits = image + draw.normal(0, 1.5, 500)
            shifts = draw.normal(0, deviation, (10, 1)) + draw.normal(0, 1.2, (10, 500))
            answers.append(suits + shifts > 0)
        won += winner(*answers)["method"] is not None
        ahead = (answers[0].mean(1) - answers[1].mean(1)).tolist()
        seeds = mean(ahead, least=1 / 500)
        leads += not seeds.lo <= 0 <= seeds.hi
    assert won <= 0.05 * rounds
    assert leads > 0.1 * rounds  # as the seeds alone would have had it


def test_no_interval_leaves_what_is_possible() -> None:
    found = lead(right(0.9, 0.1, n=20), right(0.1, 0.8, n=20), 0.95)
    assert (found.lo, found.hi) == (-1, 1)
    around = accuracy([0.9, 0.1], 20, 0.95)
    assert (around.lo, around.hi) == (0, 1)


def test_an_accuracy_is_as_unsure_as_its_seeds_and_its_images() -> None:
    few, many = (accuracy([0.8, 0.81, 0.82], n, 0.95) for n in (100, 100_000))
    seeds = mean([0.8, 0.81, 0.82])
    assert many.lo == pytest.approx(seeds.lo, abs=1e-3)
    assert many.lo <= seeds.lo
    assert few.lo < 0.74


def test_one_seed_or_one_method_has_no_winner() -> None:
    assert winner(right(0.9), right(0.1))["method"] is None
    assert "Give --seeds 3" in winner(right(0.9), right(0.1))["sentence"]
    assert winner(right(0.9, 0.8))["method"] is None


def test_without_the_single_answers_there_is_no_winner() -> None:
    found = winner(right(0.1, 0.1, 0.1), right(0.8, 0.8, 0.8), lacking="m0")
    assert found["method"] is None
    assert "m0 was trained by an edgekd that did not keep its answers" in found["sentence"]


def test_seeds_added_after_a_look_are_told_and_cost() -> None:
    assert winner(*CLOSE)["method"] == "m0"
    assert "look" not in winner(*CLOSE)["sentence"]
    found = winner(*CLOSE, looks=(1, 2, 3))
    assert found["method"] is None
    assert found["error"] == 0.0125
    said = "changed after a look at the result (1, then 2, then 3): an error of 1.2 % is allowed"
    assert said in found["sentence"]


def test_looks_are_counted_by_their_seeds(tmp_path: Path) -> None:
    file = tmp_path / "compare.json"
    first = looks_at(file, [0, 1], "a")
    assert first == [{"seeds": [0, 1], "fingerprint": "a"}]
    file.write_text(json.dumps({**COMPARE.head, "looks": first}))
    assert looks_at(file, [0, 1], "a") == first  # the same command again
    assert [look["seeds"] for look in looks_at(file, [0, 1, 2], "a")] == [[0, 1], [0, 1, 2]]
    assert len(looks_at(file, [0, 1, 2], "b")) == 1


def test_the_same_seeds_twice_in_a_row_are_one_look(tmp_path: Path) -> None:
    file = tmp_path / "compare.json"
    for seeds in ([0, 1], [0, 1], [0], [0, 1], [0, 1]):
        looks = looks_at(file, seeds, "a")
        file.write_text(json.dumps({**COMPARE.head, "looks": looks}))
    assert [look["seeds"] for look in looks] == [[0, 1], [0], [0, 1]]


@pytest.mark.parametrize("content", ["", "[1]", '{"looks": 3}', '{"looks": [3, {"seeds": 4}]}'])
def test_a_broken_file_has_no_looks(content: str, tmp_path: Path) -> None:
    file = tmp_path / "compare.json"
    file.write_text(content)
    assert len(looks_at(file, [0], "a")) == 1
