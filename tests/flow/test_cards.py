"""Every artifact of a run has its card, and a measurement is on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgekd.artifact import Artifact, read_manifest
from edgekd.cards import NAME, card_of
from edgekd.flow.exporting import already_exported
from edgekd.flow.training import teach
from tests.flow.conftest import Heard, Mission

FOLDERS = ("teacher", "student", "baseline", "student-onnx", "teacher-onnx")


@pytest.mark.parametrize("name", FOLDERS)
def test_every_artifact_has_the_card_of_what_lies_there(mission: Mission, name: str) -> None:
    path = mission.folder / name
    assert (path / NAME).read_text("utf-8") == card_of(path)
    assert NAME not in read_manifest(path)["files"]
    assert str(mission.folder.parent) not in card_of(path)


def test_the_student_knows_its_teacher_and_the_export_both(mission: Mission) -> None:
    student, exported = (read_manifest(mission.folder / n) for n in ("student", "student-onnx"))
    teacher = read_manifest(mission.folder / "teacher")
    assert student["licence"] == teacher["licence"] == []
    parent, scores = student["parent"], student["metrics"]["validation"]
    assert parent["licence"] == []
    beside = parent["validation"]
    assert beside["n"] == scores["n"]
    assert beside["delta"] == pytest.approx(scores["top1"] - beside["top1"])
    low, high = beside["delta_interval"]
    assert low < beside["delta"] < high
    assert exported["parent"]["parent"] == parent
    assert exported["method"] == student["method"] == "0.5*ce + 1*kd + 0.1*fitnet"
    assert student["training"]["images"] == 270
    assert student["training"]["augment"] == "shift"


def test_the_measurement_is_on_the_card_of_the_file(mission: Mission) -> None:
    path = mission.folder / "student-onnx"
    (proof,) = (path / "proof").glob("*.json")
    record, card = json.loads(proof.read_text())["record"], card_of(path)
    median = record["timing"]["median"]
    assert f"{median['value']:.3g} ms [{median['lo']:.3g}, {median['hi']:.3g}]" in card
    assert f"{100 * record['accuracy']['value']:.1f} %" in card
    assert record["runtime"]["version"] in card
    parent = Artifact.open(mission.folder / "student").sha256
    assert read_manifest(path)["parent"]["sha256"] == parent  # its proof changed nobody's hash


def test_a_card_that_a_kill_left_unwritten_is_written_by_the_same_command(
    mission: Mission, tmp_path: Path
) -> None:
    for name in ("teacher", "student", "student-onnx"):
        shutil.copytree(mission.folder / name, tmp_path / name)
        (tmp_path / name / NAME).write_text("of an earlier artifact")
    teach(mission.recipe, tmp_path / "teacher", Heard())
    out, student = tmp_path / "student-onnx", Artifact.open(tmp_path / "student")
    assert already_exported(student, out, mission.recipe.export) is not None
    for path in (tmp_path / "teacher", out):
        assert (path / NAME).read_text("utf-8") == card_of(path)
