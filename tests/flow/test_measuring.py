"""Measuring, exporting and the checkup: what they take, what they refuse, what they tell."""

from __future__ import annotations

import builtins
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekd.artifact import Artifact
from edgekd.errors import DataError, UsageError
from edgekd.flow import checkup as module
from edgekd.flow.checkup import checkup
from edgekd.flow.exporting import already_exported, export_network, recipe_of
from edgekd.flow.measuring import Truth, measure, model_file
from edgekd.profiling import Policy
from edgekd.recipe import Data, Export
from tests.flow.conftest import Heard, Mission

QUICK = Policy(
    max_seconds=0.3, min_seconds=0, warmup_seconds=0.01, blocks=2, block_runs=10, block_seconds=0.01
)


def test_a_file_alone_and_what_is_written(mission: Mission, tmp_path: Path) -> None:
    file = shutil.copy(mission.folder / "student-onnx" / "model.onnx", tmp_path / "plain.onnx")
    heard = Heard()
    records = measure([Path(file)], QUICK, out=tmp_path / "deep" / "m.json", watch=heard)
    assert [record["accuracy"] for record in records] == [None]
    assert json.loads((tmp_path / "deep" / "m.json").read_text()) == records
    rows = (tmp_path / "deep" / "m.samples.jsonl").read_text().splitlines()
    assert len([r for r in map(json.loads, rows) if r["model"] == 0]) == records[0]["timing"]["n"]
    assert heard.stages[-1][:3] == ("profile", 1, 1)


def test_networks_of_different_input_are_timed_apart(mission: Mission, tmp_path: Path) -> None:
    other = shutil.copytree(mission.folder / "teacher-onnx", tmp_path / "other")
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["input"]["crop_pct"] = 0.5
    (other / "manifest.json").write_text(json.dumps(manifest))
    student = mission.folder / "student-onnx"
    records = measure([student, other], QUICK, truth=Truth(mission.recipe.data))
    assert len(records) == 2
    assert all("comparison" not in record for record in records)
    first, second = (record["accuracy"] for record in records)
    kept = {
        name: Artifact.open(mission.folder / name).manifest["metrics"]["test"]["top1"]
        for name in ("student", "teacher")
    }
    assert first["value"] == pytest.approx(kept["student"])
    assert second["value"] != pytest.approx(kept["teacher"])  # it was shown other pixels


REFUSED: list[tuple[str, str]] = [
    ("none.onnx", r"there is no .*none\.onnx; expected an \.onnx file or an exported artifact"),
    ("folder", r"folder is a folder without a manifest\.json; expected an artifact"),
    ("student", r"student is a network\. Export it first: edgekd export .*student --onnx"),
]


@pytest.mark.parametrize(("name", "message"), REFUSED)
def test_what_is_no_model(name: str, message: str, mission: Mission, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = (mission.folder if name == "student" else tmp_path) / name
    with pytest.raises(UsageError, match=message):
        model_file(path)
    heard = Heard()
    with pytest.raises(UsageError, match=message):  # before the first one is measured
        measure([mission.folder / "student-onnx", path], QUICK, watch=heard)
    assert heard.stages == []


def test_places_that_cannot_be_written(mission: Mission, tmp_path: Path) -> None:
    model, heard = mission.folder / "student-onnx", Heard()
    with pytest.raises(UsageError, match=r"is a folder\. Expected a file"):
        measure([model], QUICK, out=tmp_path, watch=heard)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file is a file"):
        measure([model], QUICK, out=tmp_path / "file" / "m.json", watch=heard)
    assert heard.stages == []


def test_accuracy_of_a_plain_file_cannot_be_known(mission: Mission, tmp_path: Path) -> None:
    file = shutil.copy(mission.folder / "student-onnx" / "model.onnx", tmp_path / "plain.onnx")
    with pytest.raises(UsageError, match="does not say how its images are made"):
        measure([Path(file)], QUICK, truth=Truth(mission.recipe.data))


# ---- export ----


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """A folder of noise, so many images a class."""

    def make(*labels: str, count: int = 8) -> Path:
        draw = np.random.default_rng(0)
        for label in labels:
            (tmp_path / "pictures" / label).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{number}.png")
        return tmp_path / "pictures"

    return make


def test_the_proof_needs_the_networks_own_classes(
    mission: Mission, pictures: Callable[..., Path], tmp_path: Path
) -> None:
    student = Artifact.open(mission.folder / "student")
    with pytest.raises(DataError, match="classes"):
        export_network(student, tmp_path / "x", Export(), Data(str(pictures("cat", "dog")), size=8))
    assert not (tmp_path / "x").exists()


def test_what_counts_as_exported(mission: Mission, tmp_path: Path) -> None:
    student = Artifact.open(mission.folder / "student")
    out = shutil.copytree(mission.folder / "student-onnx", tmp_path / "onnx")
    options = mission.recipe.export
    assert already_exported(student, out, options) is not None
    assert already_exported(student, out, replace(options, opset=17)) is None
    assert already_exported(student, out, replace(options, float_input=True)) is None
    assert already_exported(Artifact.open(mission.folder / "teacher"), out, options) is None
    assert already_exported(student, tmp_path / "none", options) is None
    with (out / "model.onnx").open("ab") as file:
        file.write(b"!")
    assert already_exported(student, out, options) is None


def test_the_recipe_of_an_artifact(mission: Mission) -> None:
    found = recipe_of(Artifact.open(mission.folder / "student"))
    assert replace(found, teacher=mission.recipe.teacher) == mission.recipe


# ---- checkup ----


def test_the_checkup_finds_what_is_installed() -> None:
    found = {check.name: check for check in checkup()}
    assert found["python"].ok
    assert found["torch"].ok
    assert found["torch"].found[0].isdigit()
    assert found["tensorrt"].optional
    assert "CPUs" in found["processor"].found


def test_the_checkup_survives_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    importing = builtins.__import__

    def without_torch(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "torch" or name.startswith("edgekd.trainer"):
            raise ImportError(name)
        return importing(name, *rest, **more)

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    monkeypatch.setattr(module, "version", absent)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = {check.name: check for check in checkup()}
    assert not found["torch"].ok
    assert found["torch"].advice == "pip install torch"
    assert not found["ssh"].ok
    assert found["ssh"].optional
    assert found["GPU"].found == "none"
