"""Tuning for int8: who teaches, from where it goes on, and what it leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.artifact import Artifact
from edgekd.errors import DataError, GateError, UsageError
from edgekd.flow.identity import _deciding, fingerprint
from edgekd.flow.job import METRICS, STATE
from edgekd.flow.keeping import Origin, keep
from edgekd.flow.retuning import MARK, SCHEMES, retuned
from edgekd.flow.training import LABELS, distill, train_alone
from edgekd.hiding import shown
from edgekd.loading import Splits, loaders, open_splits
from edgekd.models import Backbone, build, from_artifact
from edgekd.models.quantised import LAYERS, Simulation
from edgekd.models.quantised import SCHEMES as ROUNDINGS
from edgekd.recipe import Data, Export, Network, Recipe, Train, recipe_from
from edgekd.sections import QUANTISED
from edgekd.targets import FLAVOURS
from edgekd.trainer import Scores, evaluate
from tests.flow.conftest import Heard

TABLE: dict[str, Any] = {
    "data": {"source": "digits", "size": 8, "limit": 300},
    "teacher": {"name": "resnet14"},
    "student": {"name": "resnet8"},
    "method": {"ce": {"weight": [1.0, 0.5]}, "kd": {}},
    "train": {
        "epochs": 6,
        "batch_size": 32,
        "lr": 0.1,
        "ema": 0.5,
        "schedule": "step",
        "checkpoint_minutes": 0.0,
        "log_steps": 2,
    },
}
ONE = Export(repair_epochs=1)
CPU = torch.device("cpu")

Run = Callable[..., Artifact]


@pytest.fixture(scope="module")
def folder(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a teacher and its student; only to read."""
    out = tmp_path_factory.mktemp("run")
    shutil.copytree(taught, out / "teacher")
    distill(_recipe(out / "teacher"), out / "student")
    return out


def _recipe(teacher: Path) -> Recipe:
    return recipe_from({**TABLE, "teacher": {"name": "", "weights": str(teacher)}})


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed, in another place."""
    return shutil.copytree(folder, tmp_path / "moved")


@pytest.fixture(scope="module")
def splits() -> Splits:
    return open_splits(Data("digits", size=8, limit=300))


def tensors(found: Artifact) -> dict[str, torch.Tensor]:
    return dict(from_artifact(found).model.state_dict())


def test_every_flavour_has_its_rounding() -> None:
    assert set(SCHEMES) == set(FLAVOURS)
    assert set(SCHEMES.values()) == set(QUANTISED)


# ---- what it leaves ----


def test_it_goes_on_from_the_student_under_its_teacher(folder: Path, tmp_path: Path) -> None:
    student, heard = Artifact.open(folder / "student"), Heard()
    made = retuned(student, tmp_path / "tuned", ONE, "tensorrt", heard)
    assert heard.said[0] == (
        "resnet8 is tuned for int8-symmetric: 1 epoch at a learning rate of 0.005, "
        "taught by resnet14"
    )
    assert heard.names == ["decode", "tune"]
    manifest = made.manifest
    assert manifest["kind"], manifest["role"] == ("network", "student")
    for key in ("name", "sha256", "licence"):
        assert manifest["parent"][key] == student.manifest["parent"][key]
    assert manifest["training"]["tuned_from"] == student.sha256
    assert manifest["training"]["quantise"] == "int8-symmetric"
    assert manifest["training"]["simulated"]["validation"]["n"] == 30
    assert manifest["method"] == "0.5*ce + 1*kd"  # its ramp is over
    train = recipe_from(manifest["recipe"]).train
    assert (train.epochs, train.schedule, train.ema) == (1, "cosine", 0.0)
    assert (train.warmup_epochs, train.clip, train.precision) == (0.0, 1.0, "fp32")
    # a few steps of a low rate, from the very weights: head, too
    before, after = tensors(student), tensors(made)
    assert list(before) == list(after)
    for name in ("stem.conv.weight", "head.fc.weight"):
        moved = (after[name] - before[name]).norm() / before[name].norm()
        assert 0 < moved < 0.1
    assert not (made.path / STATE[0]).exists()


def test_the_scores_it_keeps_are_float(folder: Path, tmp_path: Path, splits: Splits) -> None:
    student = Artifact.open(folder / "student")
    made = retuned(student, tmp_path / "tuned", ONE, "vnni")
    found = from_artifact(made)
    held = loaders(splits, found.preprocess, Data("digits", size=8, limit=300), Train())
    scores = evaluate(found.model, held.test, CPU)
    assert made.manifest["metrics"]["test"] == scores.to_dict()
    answers = json.loads((made.path / "answers.json").read_text())
    assert np.array_equal(answers["predictions"], scores.predictions)
    lines = [json.loads(line) for line in (made.path / METRICS).read_text().splitlines()]
    assert lines[-1]["validation"] == made.manifest["metrics"]["validation"]
    assert lines[-1]["simulated"] == made.manifest["training"]["simulated"]["validation"]


@pytest.mark.parametrize(("epochs", "asked", "wanted"), [(6, 0, 1), (40, 0, 4), (40, 2, 2)])
def test_how_long(
    epochs: int, asked: int, wanted: int, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth, at least one, unless it is said."""
    import edgekd.flow.retuning as module

    _rewrite(run / "student", train={"epochs": epochs})
    jobs: list[Any] = []
    monkeypatch.setattr(module, "carry_out", lambda job, *given: jobs.append(job))
    retuned(Artifact.open(run / "student"), tmp_path / "t", Export(repair_epochs=asked), "vnni")
    assert jobs[0].train.epochs == wanted


def _rewrite(folder: Path, **sections: dict[str, Any]) -> None:
    """Change the recipe of an artifact."""
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    for name, values in sections.items():
        manifest["recipe"][name] |= values
    file.write_text(json.dumps(manifest))


# ---- who teaches ----


def taught_by(run: Path, tmp_path: Path) -> tuple[str, list[str]]:
    heard = Heard()
    made = retuned(Artifact.open(run / "student"), tmp_path / "tuned", ONE, "vnni", heard)
    return shown(made.manifest["recipe"]["teacher"]["weights"]), heard.said


def test_the_teacher_beside_a_moved_student_is_found(run: Path, tmp_path: Path) -> None:
    _rewrite(run / "student", teacher={"weights": "gone/teacher"})
    weights, said = taught_by(run, tmp_path)
    assert weights == str(run / "teacher")
    assert not any("its own teacher" in line for line in said)


def test_a_teacher_that_is_gone(run: Path, tmp_path: Path) -> None:
    _rewrite(run / "student", teacher={"weights": "gone/teacher"})
    shutil.rmtree(run / "teacher")
    weights, said = taught_by(run, tmp_path)
    assert weights == str(run / "student")
    assert said[0] == (
        "resnet8 is its own teacher, as it is in float: there is no file or folder gone/teacher "
        "with the weights"
    )
    made = Artifact.open(tmp_path / "tuned")
    assert made.manifest["method"] == "1*ce + 1*kd"
    assert made.manifest["parent"]["name"] == "resnet8"
    assert made.manifest["parent"]["sha256"] == Artifact.open(run / "student").sha256


def test_another_teacher_in_its_place_is_not_taken(run: Path, tmp_path: Path) -> None:
    _rewrite(run / "student", teacher={"weights": str(run / "teacher")})
    manifest = run / "teacher" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"created": "2', '"created": "1'))
    weights, said = taught_by(run, tmp_path)
    assert weights == str(run / "student")
    reason = f"{run / 'teacher'} is not the teacher it learned from any more"
    assert said[0] == f"resnet8 is its own teacher, as it is in float: {reason}"


def test_who_had_no_teacher_teaches_itself(folder: Path, tmp_path: Path) -> None:
    recipe = _recipe(folder / "teacher")
    alone = train_alone(recipe, tmp_path / "alone", 3)
    heard = Heard()
    made = retuned(alone, tmp_path / "tuned", ONE, "avx2", heard)
    assert "it learned without a teacher" in heard.said[0]
    assert made.manifest["role"] == "baseline"
    assert made.manifest["training"]["quantise"] == "int8-reduced"
    teacher = Artifact.open(folder / "teacher")
    made = retuned(teacher, tmp_path / "teacher", ONE, "avx2", heard)
    assert made.manifest["role"] == "teacher"
    assert made.manifest["model"]["name"] == "resnet14"
    # a share of the rate of [teach], which trained it
    assert made.manifest["recipe"]["train"]["lr"] == pytest.approx(0.1 * 0.05)


def test_who_had_a_peer_teaches_itself(tmp_path: Path) -> None:
    table = {**TABLE, "peer": {"name": "resnet8"}, "method": {"ce": {}, "kd": {}}}
    both = distill(
        recipe_from(table, ["teacher.name=resnet8", "train.epochs=4"]), tmp_path / "both"
    )
    for network in (both, Artifact.open(both.path / "peer")):
        heard = Heard()
        made = retuned(network, tmp_path / network.manifest["role"], ONE, "vnni", heard)
        assert "it learned without a teacher" in heard.said[0]
        assert made.manifest["role"] == network.manifest["role"]
        assert not (made.path / "peer").exists()


# ---- going on, and beginning anew ----


class CutError(Exception):
    pass


class Cut(Heard):
    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "tune" and done >= 6:
            raise CutError


def test_it_is_gone_on_with_to_the_bit(folder: Path, tmp_path: Path) -> None:
    student = Artifact.open(folder / "student")
    expected = retuned(student, tmp_path / "whole", ONE, "vnni")
    with pytest.raises(CutError):
        retuned(student, tmp_path / "cut", ONE, "vnni", Cut())
    assert (tmp_path / "cut" / STATE[0]).is_file()
    heard = Heard()
    found = retuned(student, tmp_path / "cut", ONE, "vnni", heard)
    assert [done for stage, done, *_ in heard.stages if stage == "tune"] == [6, 8]
    one, two = tensors(found), tensors(expected)
    assert [name for name in two if not torch.equal(one[name], two[name])] == []
    again = Heard()
    assert retuned(student, tmp_path / "cut", ONE, "vnni", again).sha256 == found.sha256
    assert again.taken() == ["tune"]


@pytest.mark.parametrize("finished", [True, False])
def test_what_another_tuning_left_gives_way(finished: bool, folder: Path, tmp_path: Path) -> None:
    student, out = Artifact.open(folder / "student"), tmp_path / "tuned"
    if finished:
        retuned(student, out, ONE, "vnni")
    else:
        with pytest.raises(CutError):
            retuned(student, out, ONE, "vnni", Cut())
    heard = Heard()
    made = retuned(student, out, ONE, "tensorrt", heard)
    assert f"what another tuning left in {out} is thrown away" in heard.said
    assert made.manifest["training"]["quantise"] == "int8-symmetric"
    assert made.manifest["training"]["steps"] == 8


def test_refused(run: Path, tmp_path: Path, splits: Splits) -> None:
    student = run / "student"
    untrained = build(Network("resnet8"), splits.labels, 8)
    kept = _kept(untrained, tmp_path / "untrained", _recipe(run / "teacher"))
    with pytest.raises(GateError, match="a teacher at chance teaches noise"):
        retuned(kept, tmp_path / "tuned", ONE, "vnni")
    manifest = json.loads((student / "manifest.json").read_text())
    manifest["labels"].reverse()
    (student / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="same classes in the same order"):
        retuned(Artifact.open(student), tmp_path / "other", ONE, "vnni")


def _kept(network: Backbone, out: Path, recipe: Recipe) -> Artifact:
    few = np.zeros(4, np.int64)
    scores = Scores(0.0, 0.0, 0.0, 4, few, few)
    return keep(network, out, Origin("student", recipe, "f" * 8), scores, scores)


# ---- the fingerprint ----


def test_a_training_that_does_not_round_is_the_one_it_was(splits: Splits) -> None:
    """Trainings that were begun before there was the setting can be gone on with."""
    assert "quantise" not in _deciding(asdict(Train()))
    data, resnet = Data("digits", size=8, limit=300), Network("resnet8")
    found = {
        fingerprint("student", resnet, train, LABELS, data, splits, None, Network(""))
        for train in (Train(), *(Train(quantise=name) for name in QUANTISED))
    }
    assert len(found) == 4


# ---- that it helps ----


def test_a_network_that_int8_ruins_is_repaired(run: Path, splits: Splits, tmp_path: Path) -> None:
    """One channel in sixteen 300 times as large leaves the others less than a step."""
    student = from_artifact(Artifact.open(run / "student"))
    recipe = _recipe(run / "teacher")
    wanted = _float(student, splits, recipe)
    _unbalance(student)
    assert _float(student, splits, recipe) == pytest.approx(wanted, abs=0.01)
    spoiled = _kept(student, tmp_path / "spoiled", recipe)
    before = _simulated(spoiled, splits, recipe)
    made = retuned(spoiled, tmp_path / "tuned", Export(repair_epochs=4), "tensorrt")
    after = _simulated(made, splits, recipe)
    assert before < wanted - 0.2
    assert after > before + 0.2


@torch.no_grad()
def _unbalance(network: Backbone) -> None:
    """Enlarge channels between two convolutions and undo it in the second."""
    model: Any = network.model
    for (block,) in model.stages:
        first, second = block.conv1.bn, block.conv2.conv
        few = len(first.weight) // 16
        first.weight[:few] *= 300
        first.bias[:few] *= 300
        second.weight[:, :few] /= 300


def _float(network: Backbone, splits: Splits, recipe: Recipe) -> float:
    held = loaders(splits, network.preprocess, recipe.data, recipe.train)
    return evaluate(network.model, held.test, CPU).top1


def _simulated(artifact: Artifact, splits: Splits, recipe: Recipe) -> float:
    """Accuracy with ranges seen on training images."""
    network = from_artifact(artifact)
    held = loaders(splits, network.preprocess, recipe.data, recipe.train)
    Simulation(ROUNDINGS["int8-symmetric"]).attach(network.model)
    for layer in network.model.modules():
        layer.training = isinstance(layer, LAYERS)
    with torch.no_grad():
        for batch in held.train.epoch(0):
            network.model(batch.image)
    return evaluate(network.model.eval(), held.test, CPU).top1


def _teacher_of(student: Artifact) -> str:
    return str(shown(student.manifest["recipe"]["teacher"]["weights"]))


def test_nothing_but_a_tuning_is_thrown_away(run: Path, tmp_path: Path) -> None:
    student = Artifact.open(run / "student")
    other = shutil.copytree(run / "student", tmp_path / "other")
    half = tmp_path / "half"
    (half / "training").mkdir(parents=True)
    (half / STATE[0]).write_bytes(b"somebody's work")
    for place, held in (
        (run / "student", "the network that is exported"),
        (Path(_teacher_of(student)), "its teacher"),
        (other, "a network that no tuning made"),
        (half, "an unfinished training that is no tuning"),
    ):
        before = {file: file.read_bytes() for file in place.rglob("*") if file.is_file()}
        with pytest.raises(UsageError, match=f"which holds {held}"):
            retuned(student, place, ONE, "vnni")
        assert {file: file.read_bytes() for file in place.rglob("*") if file.is_file()} == before


def test_a_tuned_network_is_not_tuned_onto_itself(run: Path) -> None:
    tuned = retuned(Artifact.open(run / "student"), run / "x-tuned", ONE, "vnni")
    assert (tuned.path / MARK).is_file()
    with pytest.raises(UsageError, match="the network that is exported"):
        retuned(tuned, run / "x-tuned", ONE, "vnni")
    assert Artifact.open(run / "x-tuned").sha256 == tuned.sha256
