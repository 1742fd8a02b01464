"""edgekd compare: what it takes, prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekd.cli.compare import _recipes
from tests.cli.conftest import Command
from tests.cli.test_verbs import TINY, narrow

KD, DIST, MAPS = "ce + 0.9*kd", "ce + 2*dist", "ce + 0.1*fitnet"


def test_a_comparison_for_a_person_and_for_a_program(
    edgekd: Command, taught: Path, tmp_path: Path
) -> None:
    given = ["compare", "--teacher", taught, "--student", "resnet8", "--data", "digits", *TINY]
    given += ["--method", KD, "--method", DIST, "--seeds", "2", "-o", tmp_path / "c"]
    answer = edgekd(*given)
    assert answer.code == 0, answer.err
    assert narrow(answer.out)
    assert "Top-1: mean of 2 seeds, lowest to highest." in answer.out
    assert f"Report: {tmp_path / 'c' / 'report.html'}" in answer.out
    assert "inner" in answer.out  # a winner, or none
    assert f"{KD} (seed 1) resnet8: " in answer.err
    found = json.loads(edgekd(*given, "--json").out)
    written = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert {key: found[key] for key in written} == written
    assert [method["method"] for method in written["methods"]] == ["ce", KD, DIST]
    assert f"{written['methods'][1]['test']['mean']:.1%}" in answer.out
    assert written["command"].startswith("edgekd compare --teacher ")
    page = (tmp_path / "c" / "report.html").read_text()
    assert KD in page


def test_seeds_that_share_batches_say_so(edgekd: Command, taught: Path, tmp_path: Path) -> None:
    given = ["compare", "--teacher", taught, "--student", "resnet8", "--data", "digits", *TINY]
    given += ["--method", MAPS, "--seeds", "2", "--seed", "3", "--share-batches"]
    answer = edgekd(*given, "-o", tmp_path / "c")
    assert answer.code == 0, answer.err
    assert narrow(answer.out)
    assert "All seeds saw the same batches, shuffled and augmented by seed 3" in plain(answer.out)
    assert "4 students of 2 seeds train side by side" in plain(answer.err)
    assert json.loads((tmp_path / "c" / "compare.json").read_text())["order"]["seed"] == 3
    assert "were spent once for all. " in plain(answer.out)  # maps are not remembered
    recipe = json.loads(edgekd(*given, "--print-recipe", "--json").out)
    assert recipe["data"]["order"] == 3
    own = json.loads(edgekd(*given, "--set", "data.order=7", "--print-recipe", "--json").out)
    assert own["data"]["order"] == 7  # who names an order gets it


def plain(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "--method is missing"),
        (["--method", KD], "--teacher is missing"),
        (["--method", KD, "--teacher", "x:y", "--seeds", "0"], "0 is not in the range"),
        (["--method", "kdd", "--teacher", "resnet14:none"], "kdd"),
        (["--method", KD, "--set", "method.at.p=1"], "no --method here has a term 'at'"),
        (["--method", KD, "--set", "method=ce + at"], "name methods with --method"),
    ],
)
def test_refusals(more: list[str], message: str, edgekd: Command) -> None:
    answer = edgekd("compare", *more, "--student", "resnet8")
    assert answer.code == 2
    assert message in answer.err


def test_an_option_of_a_term_goes_to_those_who_have_it() -> None:
    settings = ("method.kd.temperature=2", "train.lr=0.01", "method.ce.smoothing=0.1")
    made = _recipes((KD, DIST), {"settings": settings}, None)
    assert made[KD].method["kd"] == {"weight": 0.9, "temperature": 2}
    assert made[DIST].method.keys() == {"ce", "dist"}
    assert {recipe.method["ce"]["smoothing"] for recipe in made.values()} == {0.1}
    assert {recipe.train.lr for recipe in made.values()} == {0.01}
    assert list(made) == ["ce", KD, DIST]
