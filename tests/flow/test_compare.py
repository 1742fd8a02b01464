"""Compare: the students are distill's, what is finished is taken, and no luck wins."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekd.artifact import Artifact
from edgekd.errors import DivergedError, GateError, RecipeError, UsageError
from edgekd.flow.choosing import LOGITS
from edgekd.flow.compare import Comparison, compare
from edgekd.flow.compare_folders import folder_of
from edgekd.flow.training import Lesson, conclude, distill
from edgekd.methods import Method
from edgekd.recipe import Recipe, recipe_from
from edgekd.schema import COMPARE
from edgekd.trainer import Trained
from tests.flow.conftest import TABLE, Heard
from tests.keys import check_keys

METHODS = ("ce + kd", "ce + 0.1*fitnet", "ce + 0.1*diffkd")


class CutError(Exception):
    """As after a kill."""


@pytest.fixture
def recipes(taught: Path) -> Callable[..., dict[str, Recipe]]:
    def make(*overrides: str, methods: tuple[str, ...] = METHODS) -> dict[str, Recipe]:
        table = {**TABLE, "teacher": {"name": "", "weights": str(taught)}}
        return {
            text: recipe_from(
                table, ["train.epochs=1", "data.limit=120", f"method={text}", *overrides]
            )
            for text in methods
        }

    return make


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def of(found: Mapping[str, Any], text: str) -> dict[str, Any]:
    (method,) = [method for method in found["methods"] if method["method"] == text]
    return dict(method)


def test_every_student_is_the_one_that_distill_makes(
    recipes: Callable[..., dict[str, Recipe]], tmp_path: Path
) -> None:
    out, made = tmp_path / "c", recipes(methods=(METHODS[0], METHODS[2]))
    found = compare(Comparison(made, 2, out))
    assert [method["method"] for method in found["methods"]] == ["ce", *made]
    for text, recipe in made.items():
        own = replace(recipe, train=replace(recipe.train, seed=1))
        single = distill(own, tmp_path / f"single-{folder_of(text)}")
        run = of(found, text)["runs"][1]
        assert weights(out / run["folder"]) == weights(single.path)
        assert run["test"] == single.manifest["metrics"]["test"]["top1"]
    heard = Heard()  # and distill takes it for its own
    distill(made["ce + kd"], out / "ce+kd" / "seed-0", heard)
    assert heard.taken() == ["distill"]
    _check_figures(found, out)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.safetensors")}
    again = compare(Comparison(made, 2, out))
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*.safetensors")} == before
    assert {**again, "timestamp": ""} == {**found, "timestamp": ""}


def test_all_seeds_together_where_they_share_an_order(
    recipes: Callable[..., dict[str, Recipe]], tmp_path: Path
) -> None:
    out, made, heard = tmp_path / "c", recipes("data.order=0", methods=METHODS[2:]), Heard()
    found = compare(Comparison(made, 2, out, heard))
    said = "4 students of 2 seeds train side by side, all in memory at once"
    assert any(text.startswith(said) for text in heard.said)
    assert found["order"]["seed"] == 0
    assert "shuffled and augmented by seed 0" in found["order"]["sentence"]
    page = (out / "report.html").read_text()
    assert "shuffled and augmented by seed 0" in page
    folders = [out / run["folder"] for method in found["methods"] for run in method["runs"]]
    noted = [Artifact.open(folder).manifest["training"]["together"] for folder in folders]
    assert {facts["students"] for facts in noted} == {4}
    assert len({facts["sitting"] for facts in noted}) == 1
    (recipe,) = made.values()
    own = replace(recipe, train=replace(recipe.train, seed=1))
    single = distill(own, tmp_path / "single")
    assert weights(out / of(found, METHODS[2])["runs"][1]["folder"]) == weights(single.path)
    again = Heard()  # more seeds join those that are finished, in the same order of images
    more = compare(Comparison(made, 3, out, again))
    assert not any("side by side" in text for text in again.said)  # only one seed is left
    assert [run["seed"] for run in of(more, METHODS[2])["runs"]] == [0, 1, 2]
    assert of(more, "ce")["cost"]["over_alone"] == 1.0


def _check_figures(found: dict[str, Any], out: Path) -> None:
    written = json.loads((out / "compare.json").read_text())
    assert written == {key: value for key, value in found.items() if key != "report"}
    check_keys(COMPARE, written)
    kd, alone = of(found, "ce + kd"), of(found, "ce")
    tests = [run["test"] for run in kd["runs"]]
    assert kd["test"]["mean"] == pytest.approx(sum(tests) / 2)
    assert [kd["test"]["min"], kd["test"]["max"]] == sorted(tests)
    pairs = zip(kd["runs"], alone["runs"], strict=True)
    assert kd["gain"]["per_seed"] == [a["test"] - b["test"] for a, b in pairs]
    assert kd["gain"]["lo"] <= kd["gain"]["value"] <= kd["gain"]["hi"]
    assert alone["gain"] is None
    assert alone["cost"]["over_alone"] == 1.0
    assert kd["cost"]["over_alone"] > 1
    assert found["teacher"]["name"] == "resnet14"
    assert found["teacher"]["top1"] > 0.5
    assert found["seeds"] == [0, 1]
    assert found["order"] is None
    assert "by seed and by image" in kd["gain"]["basis"]
    assert [look["seeds"] for look in found["looks"]] == [[0, 1]]
    _check_answers(out / kd["runs"][0]["folder"])


def _check_answers(folder: Path) -> None:
    answers = json.loads((folder / "answers.json").read_text())
    metrics = json.loads((folder / "manifest.json").read_text())["metrics"]
    for split, said in (("test", answers), ("validation", answers["validation"])):
        right = [a == b for a, b in zip(said["predictions"], said["targets"], strict=True)]
        assert len(right) == metrics[split]["n"]
        assert sum(right) / len(right) == pytest.approx(metrics[split]["top1"])


def test_more_seeds_after_a_look_are_told_and_what_was_apart_has_no_cost(
    recipes: Callable[..., dict[str, Recipe]], tmp_path: Path
) -> None:
    """A method that comes later was not timed beside the student alone."""
    kd, fitnet = recipes(methods=METHODS[:2]).items()
    compare(Comparison(dict([kd]), 1, tmp_path / "c"))
    found = compare(Comparison(dict([kd, fitnet]), 2, tmp_path / "c"))
    assert [look["seeds"] for look in found["looks"]] == [[0], [0, 1]]
    said = "The number of seeds was changed after a look at the result (1, then 2)"
    assert said in found["winner"]["sentence"]
    assert found["winner"]["error"] == 0.025
    other = compare(Comparison(recipes_with_seed(kd, 1), 1, tmp_path / "c"))
    assert [look["seeds"] for look in other["looks"]] == [[0], [0, 1], [1]]
    again = compare(Comparison(dict([kd, fitnet]), 2, tmp_path / "c"))
    assert [look["seeds"] for look in again["looks"]] == [[0], [0, 1], [1], [0, 1]]
    assert again["winner"]["error"] == 0.05 / 8
    assert "(1, then 2, then 1, then 2)" in again["winner"]["sentence"]
    (tmp_path / "c" / "ce" / "seed-0" / "manifest.json").unlink()  # trained again, by itself
    apart = compare(Comparison(dict([kd, fitnet]), 1, tmp_path / "c"))
    assert of(apart, METHODS[0])["cost"]["ms_per_step"] > 0
    assert of(apart, METHODS[0])["cost"]["over_alone"] is None
    assert of(apart, METHODS[1])["cost"]["over_alone"] is None
    assert of(apart, "ce")["cost"]["over_alone"] == 1


def recipes_with_seed(named: tuple[str, Recipe], seed: int) -> dict[str, Recipe]:
    text, recipe = named
    return {text: replace(recipe, train=replace(recipe.train, seed=seed))}


def test_cut_off_and_started_again_with_one_more_method(
    recipes: Callable[..., dict[str, Recipe]], tmp_path: Path
) -> None:
    class Cut(Heard):
        def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
            if stage.startswith("ce + 0.1*fitnet") and done >= 2:
                raise CutError

    made = recipes("train.checkpoint_minutes=0", "train.log_steps=1")
    two = {text: made[text] for text in METHODS[:2]}
    with pytest.raises(CutError):
        compare(Comparison(two, 1, tmp_path / "cut", Cut()))
    assert (tmp_path / "cut" / "ce+kd" / "seed-0" / "training" / "checkpoint.pt").is_file()
    found = compare(Comparison(made, 1, tmp_path / "cut"))
    whole = compare(Comparison(made, 1, tmp_path / "whole"))
    for text in ("ce", *METHODS):
        folder = of(found, text)["runs"][0]["folder"]
        assert weights(tmp_path / "cut" / folder) == weights(tmp_path / "whole" / folder)
    heard = Heard()
    compare(Comparison({METHODS[0]: made[METHODS[0]]}, 1, tmp_path / "cut", heard))
    (said,) = [line for line in heard.said if "not compared" in line]
    assert said.endswith(f": {', '.join(sorted(map(folder_of, METHODS[1:])))}")
    assert "one seed does not tell" in whole["winner"]["sentence"]
    assert "paired by image" in of(whole, "ce + kd")["gain"]["basis"]
    left = [file.name for file in (tmp_path / "cut").rglob("*") if file.name.startswith(".")]
    assert left == []


def test_what_diverges_is_told_and_the_others_go_on(
    recipes: Callable[..., dict[str, Recipe]], tmp_path: Path
) -> None:
    made = recipes(methods=("ce + kd", "1e30*kd"))
    found = compare(Comparison(made, 1, tmp_path / "c"))
    broken = of(found, "1e30*kd")
    assert "no longer finite" in broken["failed"]
    assert "--restart" not in broken["failed"]  # which would throw the others away
    assert "Leave the method out, or compare all of them in another --output" in broken["failed"]
    assert broken["runs"][0]["test"] is broken["test"]["mean"] is broken["gain"] is None
    assert of(found, "ce + kd")["failed"] is None
    assert "1e30*kd did not finish" in found["winner"]["sentence"]


@pytest.mark.parametrize("error", ["gate", "study"])
def test_what_comes_to_nothing_otherwise_is_left_behind(
    error: str,
    recipes: Callable[..., dict[str, Recipe]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Logits that are infinite on test images alone; a network of a term's that learned nothing."""
    made = recipes(methods=("ce + kd", "ce + 0.1*ft"))
    if error == "gate":

        def refuse(lesson: Lesson, trained: Trained) -> Artifact:
            if "ft" in lesson.task.method.named:
                raise GateError("resnet8 answers with infinities")
            return conclude(lesson, trained)

        monkeypatch.setattr("edgekd.flow.compare.conclude", refuse)
    else:

        def study(method: Method, *given: Any) -> None:
            if "ft" in method.named:
                raise DivergedError("what ft learned from the teacher is not finite.")

        monkeypatch.setattr("edgekd.trainer.engine.studying.study", study)
    found = compare(Comparison(made, 1, tmp_path / "c"))
    words = {"gate": "answers with infinities", "study": "is not finite"}
    assert words[error] in of(found, "ce + 0.1*ft")["failed"]
    assert of(found, "ce + kd")["failed"] is of(found, "ce")["failed"] is None


REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "twice": (("ce + kd", "1.0*kd + ce"), (), "are the same"),
    "another order": (("ce + kd", "kd + ce"), (), "are the same"),
    "auto": (("auto", LOGITS), (), r"are the same \(auto chooses 1\*ce"),
    "defaults": (("ce + kd", "1..1*ce + kd"), (), "are the same"),
    "too coarse": (("ce + kd", "ce + rtk"), ("data.size=8", "method.rtk.keys=9999"), "rtk"),
    "swapped": (("ce + kd",), ("student.name=resnet8x4",), "swapped"),
    "peer": (("ce + kd",), ("peer.name=resnet8",), "peer"),
    "trackers": (("ce + kd",), ('train.trackers=["wandb"]',), "wandb"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_any_training(
    case: str, recipes: Callable[..., dict[str, Recipe]], tmp_path: Path
) -> None:
    methods, overrides, message = REFUSED[case]
    made = recipes(methods=methods)
    made = {text: recipe_from(made[text].to_dict(), _own(text, overrides)) for text in made}
    with pytest.raises((UsageError, RecipeError), match=message):
        compare(Comparison(made, 1, tmp_path / "c"))
    assert not (tmp_path / "c").exists()


def _own(text: str, overrides: tuple[str, ...]) -> list[str]:
    return [o for o in overrides if not o.startswith("method.") or o.split(".")[1] in text]


def test_the_folder_of_another_recipe_is_refused(
    recipes: Callable[..., dict[str, Recipe]], tmp_path: Path
) -> None:
    only = {"ce + kd": recipes()["ce + kd"]}
    compare(Comparison(only, 1, tmp_path / "c"))
    other = {"ce + kd": replace(only["ce + kd"], train=replace(only["ce + kd"].train, lr=0.01))}
    with pytest.raises(UsageError, match="another recipe"):
        compare(Comparison(other, 2, tmp_path / "c"))
    assert not (tmp_path / "c" / "ce" / "seed-1").exists()


def test_other_methods_have_other_folders() -> None:
    texts = ["ce + kd", "ce + 0.9*kd", "mgd(ce + kd)", "mgd(ce) + kd", "0..1*kd", "ce + kd" * 30]
    names = [folder_of(text) for text in texts]
    assert len(set(names)) == len(names)
    assert names[:3] == ["ce+kd", "ce+0.9kd", "mgd.of.ce+kd"]
    assert max(map(len, names)) < 100
