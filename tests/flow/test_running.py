"""Running: the whole mission, what it leaves, and what it does not do twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.torch import load_file

from edgekd.artifact import Artifact, read_manifest
from edgekd.errors import UnknownNameError, UsageError
from edgekd.files import read_json
from edgekd.flow.gates import equal_cost_epochs
from edgekd.flow.running import Run, run
from edgekd.models import build, from_artifact
from edgekd.recipe import Network, Profile, Recipe, recipe_from
from edgekd.schema import MANIFEST, PROOF, RUN
from tests.flow.conftest import TABLE, Heard, Mission
from tests.keys import check_keys


def test_every_stage_leaves_its_artifact(mission: Mission) -> None:
    roles = {
        path.name: Artifact.open(path).manifest["role"]
        for path in mission.folder.iterdir()
        if path.is_dir()
    }
    assert roles == {
        "teacher": "teacher",
        "student": "student",
        "baseline": "baseline",
        "teacher-onnx": "teacher",
        "student-onnx": "student",
    }
    assert Recipe.load(mission.folder / "recipe.toml") == mission.recipe
    assert not list(mission.folder.rglob(".*"))
    assert not list(mission.folder.rglob("checkpoint*"))


def test_the_manifest_of_the_student(mission: Mission) -> None:
    student = Artifact.open(mission.folder / "student")
    teacher = Artifact.open(mission.folder / "teacher")
    assert student.manifest["parent"]["name"] == "resnet14"
    assert student.manifest["parent"]["sha256"] == teacher.sha256
    assert student.manifest["method"] == "0.5*ce + 1*kd + 0.1*fitnet"
    assert student.manifest["labels"] == [str(digit) for digit in range(10)]
    assert student.manifest["training"]["epochs"] == 2
    assert student.manifest["metrics"]["test"]["n"] == 359
    assert not any("adapter" in name for name in load_file(student.model_file))
    answers = json.loads((student.path / "answers.json").read_text())
    right = np.equal(answers["predictions"], answers["targets"]).mean()
    assert right == pytest.approx(student.manifest["metrics"]["test"]["top1"])


def test_the_baseline_is_paired_at_equal_cost(mission: Mission) -> None:
    gain = mission.summary["gain"]
    networks = [
        from_artifact(Artifact.open(mission.folder / name)).macs()
        for name in ("student", "teacher")
    ]
    assert gain["baseline_epochs"] == equal_cost_epochs(2, *networks)
    baseline = Artifact.open(mission.folder / "baseline")
    assert baseline.manifest["training"]["epochs"] == gain["baseline_epochs"]
    assert baseline.manifest["method"] == "1*ce"
    student = Artifact.open(mission.folder / "student")
    difference = (
        student.manifest["metrics"]["test"]["top1"] - baseline.manifest["metrics"]["test"]["top1"]
    )
    assert gain["delta"] == pytest.approx(difference)
    assert gain["interval"][0] <= gain["delta"] <= gain["interval"][1]
    assert gain["n"] == 359


def test_the_exported_files_answer_as_the_networks(mission: Mission) -> None:
    records = json.loads((mission.folder / "profile.json").read_text())
    measured = [record for record in records if "timing" in record]
    assert len(measured) == 2
    for record, name in zip(measured, ("student", "teacher"), strict=True):
        onnx.checker.check_model(mission.folder / f"{name}-onnx" / "model.onnx")
        manifest = Artifact.open(mission.folder / name).manifest
        assert record["accuracy"]["value"] == pytest.approx(manifest["metrics"]["test"]["top1"])
        assert record["accuracy"]["n"] == 359
    assert measured[0]["accuracy"]["top1_agreement"] == 1.0
    samples = (mission.folder / "profile.samples.jsonl").read_text().splitlines()
    assert {json.loads(line)["model"] for line in samples} >= {0, 1}


def test_the_summary_and_the_report(mission: Mission) -> None:
    kept = json.loads((mission.folder / "run.json").read_text())
    assert {**kept, "report": mission.summary["report"]} == mission.summary
    assert kept["command"] == "edgekd run tiny.toml"
    assert list(kept["seconds"]) == ["teach", "distill", "baseline", "export", "profile"]
    assert all(seconds > 0 for seconds in kept["seconds"].values())
    for kind, name in (("html", "report.html"), ("markdown", "report.md"), ("json", "report.json")):
        assert mission.summary["report"][kind] == str(mission.folder / name)
        assert (mission.folder / name).stat().st_size > 1000
    assert any(line.startswith("student resnet8: ") for line in kept["decisions"])


def test_the_files_have_the_keys_of_their_versions(mission: Mission) -> None:
    folder = mission.folder
    check_keys(MANIFEST, *(read_manifest(path.parent) for path in folder.glob("*/manifest.json")))
    check_keys(PROOF, *(read_json(path) for path in folder.glob("*/proof/*.json")))
    check_keys(RUN, read_json(folder / "run.json"))


def test_the_watch_is_told(mission: Mission) -> None:
    stages = ["decode", "teach", "distill", "baseline", "export", "profile", "accuracy"]
    assert mission.heard.names == stages
    for stage in stages:
        told = [(done, total) for name, done, total, _ in mission.heard.stages if name == stage]
        assert told[-1][0] == told[-1][1]
        assert all(0 <= done <= total for done, total in told)


# ---- the same command again ----


@pytest.fixture
def again(mission: Mission, tmp_path: Path) -> Callable[..., Heard]:
    """Run once more in a copy of the folder, after parts of it were removed."""
    folder = shutil.copytree(mission.folder, tmp_path / "run")
    # the artifacts name no paths, so a copy is as good; teacher and student are found in it

    def call(*removed: str, recipe: Recipe = mission.recipe, restart: bool = False) -> Heard:
        for name in removed:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        heard = Heard()
        before = {file: file.read_bytes() for file in folder.glob("*/model.safetensors")}
        task = Run(recipe, folder, heard, restart=restart, command="edgekd run tiny.toml")
        summary = run(task)
        assert set(summary) >= {"gain", "seconds", "decisions"}
        for file, content in before.items():
            assert file.read_bytes() == content
        for name in ("teacher", "student", "baseline", "teacher-onnx", "student-onnx"):
            Artifact.open(folder / name)
        assert (folder / "report.html").is_file()
        return heard

    return call


REDONE = {
    "nothing": ([], []),
    "student": (["student"], ["distill", "export"]),  # the same bytes are not measured again
    "baseline": (["baseline"], ["baseline"]),
    "teacher": (["teacher"], ["teach", "export"]),
    "export": (["student-onnx"], ["export"]),
    "profile": (["profile.json"], ["profile"]),
    "report": (["report.html", "report.json"], []),
}


@pytest.mark.parametrize("what", REDONE)
def test_only_what_is_missing_is_done_again(
    what: str, again: Callable[..., Heard], mission: Mission, tmp_path: Path
) -> None:
    removed, redone = REDONE[what]
    heard = again(*removed)
    worked = [name for name, _, _, note in heard.stages if not note.startswith("already")]
    assert [name for name in dict.fromkeys(worked) if name not in ("decode", "accuracy")] == redone
    first = json.loads((mission.folder / "run.json").read_text())
    second = json.loads((tmp_path / "run" / "run.json").read_text())
    assert second["gain"] == first["gain"]
    said, before = (
        [line for line in kept["decisions"] if not line.startswith("memory: ")]  # of this process
        for kept in (second, first)
    )
    assert said == before
    for stage, seconds in first["seconds"].items():
        if stage not in redone:
            assert second["seconds"][stage] == seconds


def test_restart_does_everything(again: Callable[..., Heard]) -> None:
    heard = again(restart=True)
    assert heard.taken() == []
    assert {"teach", "distill", "baseline", "export", "profile"} <= set(heard.names)


def test_another_recipe_in_the_same_folder_is_refused(
    again: Callable[..., Heard], mission: Mission
) -> None:
    other = replace(mission.recipe, train=replace(mission.recipe.train, lr=0.01))
    with pytest.raises(UsageError, match=r"finished student of another recipe.*--restart"):
        again(recipe=other)


def test_another_way_to_measure_only_measures(
    again: Callable[..., Heard], mission: Mission
) -> None:
    other = replace(mission.recipe, profile=Profile(max_seconds=1.0, threads=1))
    heard = again(recipe=other)
    assert heard.taken() == ["teach", "distill", "baseline", "export", "export"]
    assert "profile" in heard.names


# ---- what is refused before the first stage ----

LATE: list[tuple[list[str], type[Exception], str]] = [
    (["student.name=resnet9"], UnknownNameError, "there is no model 'resnet9'"),
    (["method=ce + kdd"], UnknownNameError, "there is no method 'kdd'"),
    (["method.kd.temperature=0"], UsageError, "temperature must be above 0"),
    (["train.optimizer=sdg"], UsageError, "train.optimizer is 'sdg'"),
    (["teach.schedule=cos"], UsageError, "teach.schedule is 'cos'"),
    (["profile.device=pi"], UnknownNameError, "there is no device 'pi'"),
    (["teacher.name=resnet8", "student.name=resnet14"], UsageError, "Are they swapped"),
    (["student.weights=none.pth"], UsageError, r"none\.pth"),
]


@pytest.mark.parametrize(("overrides", "kind", "message"), LATE)
def test_refused_before_the_first_stage(
    overrides: list[str], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    heard = Heard()
    with pytest.raises(kind, match=message):
        run(Run(recipe_from(TABLE, overrides), tmp_path / "run", heard))
    assert heard.stages == []
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_that_comes_trained(taught: Path, tmp_path: Path) -> None:
    """It is adopted, judged and left as it is; the student learns from it all the same."""
    recipe = replace(recipe_from(TABLE), teacher=Network("", str(taught)))
    heard = Heard()
    summary = run(Run(recipe, tmp_path / "run", heard, baseline="none"))
    assert summary["gain"] is None
    assert "teach" not in heard.names
    adopted = Artifact.open(tmp_path / "run" / "teacher")
    assert adopted.manifest["training"] is None
    given, kept = load_file(taught / "model.safetensors"), load_file(adopted.model_file)
    assert all((given[name] == kept[name]).all() for name in given)
    assert not (tmp_path / "run" / "baseline").exists()
    assert build(recipe.student, adopted.manifest["labels"]).name == "resnet8"
