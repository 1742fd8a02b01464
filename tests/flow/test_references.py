"""References: reduced precisions are held against the float network, image by image."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

import edgekd
from edgekd.artifact import Artifact, is_artifact
from edgekd.export import float_answers
from edgekd.flow import references
from edgekd.flow.gallery import Gallery
from edgekd.flow.measuring import Truth, measure
from edgekd.flow.references import find_references
from edgekd.profiling import Policy
from edgekd.scratch import temporary
from tests.flow.conftest import Heard, Mission
from tests.flow.copies import copied

QUICK = Policy(
    max_seconds=0.3, min_seconds=0, warmup_seconds=0.01, blocks=2, block_runs=10, block_seconds=0.01
)
SCHEMA = json.loads((Path(edgekd.__file__).parent / "profile.schema.json").read_text())


@pytest.fixture
def gallery(mission: Mission, tmp_path: Path) -> Gallery:
    (tmp_path / "gallery").mkdir()
    return Gallery(tmp_path / "gallery", mission.recipe.data, [mission.folder / "student-onnx"])


def said_by(network: Path, gallery: Gallery) -> list[int]:
    """What a network says about the gallery, asked anew."""
    artifact = Artifact.open(network)
    shown = gallery.shown(artifact.manifest["input"])
    return [int(p) for p in float_answers(artifact, shown.read()).argmax(axis=1)]


def test_every_reduced_precision_is_paired_with_the_float_export(
    mission: Mission, gallery: Gallery, tmp_path: Path
) -> None:
    source = mission.folder / "student-onnx"
    whole = copied(source, tmp_path / "whole")
    half = copied(source, tmp_path / "half", "fp16", noise=0.3)
    eighth = copied(source, tmp_path / "eighth", "int8", noise=0.8)
    heard, truth = Heard(), Truth(mission.recipe.data)
    made = measure([half, whole, eighth], QUICK, truth=truth, watch=heard)
    for record in made:
        jsonschema.validate(json.loads(json.dumps(record, allow_nan=False)), SCHEMA)
    rough, fine, rougher = (record["accuracy"] for record in made[:3])
    expected = said_by(mission.folder / "student", gallery)
    test = gallery.shown(Artifact.open(source).manifest["input"]).read()
    share = float(np.mean(np.asarray(expected) == test.targets))
    assert fine["value"] == rough["reference"] == rougher["reference"] == share
    assert rough["delta"] == pytest.approx(rough["value"] - share)
    assert rougher["delta"] == pytest.approx(rougher["value"] - share)
    assert rougher["top1_agreement"] < 1
    assert rougher["delta_interval"][0] <= rougher["delta"] <= rougher["delta_interval"][1]
    # the network itself is not beside the float export here, and that is said once
    assert fine["delta"] is None
    assert [line for line in heard.said if "no accuracy delta" in line] == [
        line for line in heard.said if line.startswith("whole: ")
    ]
    assert len([line for line in heard.said if line.startswith("whole: ")]) == 1


def test_the_network_beside_is_the_reference(
    mission: Mission, gallery: Gallery, tmp_path: Path
) -> None:
    """Its kept answers are believed once a sample was confirmed; disagreements can be looked at."""
    student = shutil.copytree(mission.folder / "student", tmp_path / "student")
    eighth = copied(mission.folder / "student-onnx", tmp_path / "eighth", "int8", noise=0.8)
    heard, said = Heard(), said_by(student, gallery)
    (record,) = measure([eighth], QUICK, truth=Truth(mission.recipe.data), watch=heard)
    jsonschema.validate(json.loads(json.dumps(record, allow_nan=False)), SCHEMA)
    assert "reference" not in heard.names  # so it was not run over all images
    accuracy = record["accuracy"]
    test = gallery.shown(Artifact.open(eighth).manifest["input"]).read()
    share = float(np.mean(np.asarray(said) == test.targets))
    assert accuracy["reference"] == share
    assert accuracy["delta"] == pytest.approx(accuracy["value"] - share)
    found, n = accuracy["disagreements"], accuracy["n"]
    assert found["n"] == round((1 - accuracy["top1_agreement"]) * n)
    assert len(found["shown"]) == min(24, found["n"]) > 0
    labels = Artifact.open(eighth).manifest["labels"]
    for each in found["shown"]:
        assert each["reference"] == labels[said[each["index"]]] != each["found"]
        assert each["truth"] == labels[test.targets[each["index"]]]
        with Image.open(io.BytesIO(base64.b64decode(each["png"]))) as picture:
            assert picture.format == "PNG"
            assert (np.asarray(picture) == test.pixels[each["index"]]).all()
    indices = [each["index"] for each in found["shown"]]
    assert indices == sorted(set(indices))


def test_answers_to_other_images_are_not_believed(
    mission: Mission, gallery: Gallery, tmp_path: Path
) -> None:
    student = shutil.copytree(mission.folder / "student", tmp_path / "student")
    eighth = copied(mission.folder / "student-onnx", tmp_path / "eighth", "int8")
    kept = json.loads((student / "answers.json").read_text())
    kept["predictions"] = [(p + 1) % 10 for p in kept["predictions"]]
    _rewrite(student, "answers.json", kept)
    rebound = copied(eighth, tmp_path / "again", "int8", parent=_parent(student))
    heard = Heard()
    found = find_references([rebound], None, gallery, heard)[rebound]
    assert found.predictions == said_by(student, gallery)  # it was asked anew
    assert "reference" in heard.names


def test_a_reference_that_is_given_comes_first(mission: Mission, gallery: Gallery) -> None:
    models = [mission.folder / "student-onnx", mission.folder / "teacher-onnx"]
    given = [0] * len(gallery.shown(Artifact.open(models[0]).manifest["input"]).read())
    found = find_references(models, given, gallery, Heard())
    assert found[models[0]].predictions == given
    assert found[models[1]].predictions == said_by(mission.folder / "teacher", gallery)


def test_what_was_tuned_is_held_against_the_network_before(
    mission: Mission, gallery: Gallery, tmp_path: Path
) -> None:
    source = mission.folder / "student-onnx"
    original = Artifact.open(mission.folder / "student").sha256
    section = {**Artifact.open(source).manifest["export"], "tuned_from": original}
    section["precision_asked"] = "int8"
    other = {"sha256": "0" * 64, "name": "student-tuned"}
    tuned = copied(source, tmp_path / "tuned", "int8", export=section, parent=other)
    assert find_references([tuned, source], None, gallery, Heard())[tuned].model == source


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_without_a_reference_the_reason_is_said(
    damage: str, mission: Mission, gallery: Gallery, tmp_path: Path
) -> None:
    eighth = copied(mission.folder / "student-onnx", tmp_path / "eighth", "int8")
    if damage == "changed":
        student = shutil.copytree(mission.folder / "student", tmp_path / "student")
        with (student / "model.safetensors").open("ab") as file:
            file.write(b"!")
    found = find_references([eighth], None, gallery, Heard())[eighth]
    words = {"gone": f"is not beside {eighth}", "changed": "cannot be run: "}[damage]
    assert words in found.missing
    assert (found.predictions, found.model) == (None, None)


@pytest.mark.parametrize("there", [False, True])
def test_what_beside_it_cannot_be_read_is_passed_over(
    there: bool,
    mission: Mission,
    gallery: Gallery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as other users' folders, where artifacts lie in ``/tmp``."""
    eighth = copied(mission.folder / "student-onnx", tmp_path / "eighth", "int8")
    closed = tmp_path / "a-closed-one" / "manifest.json"
    closed.parent.mkdir()
    if there:
        shutil.copytree(mission.folder / "student", tmp_path / "student")

    def looked(folder: Path) -> bool:
        if folder == closed.parent:  # who is root may look anywhere
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(closed))
        return is_artifact(folder)

    monkeypatch.setattr(references, "is_artifact", looked)
    with temporary():
        found = find_references([eighth], None, gallery, Heard())[eighth]
    assert (found.predictions is not None) == there
    words = f"is not beside {eighth} ({closed} cannot be read: Permission denied)"
    assert found.missing.endswith(words) == (not there)


def test_a_folder_that_cannot_be_listed_is_no_reason_not_to_measure(
    mission: Mission, gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eighth = copied(mission.folder / "student-onnx", tmp_path / "eighth", "int8")

    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "iterdir", refused)
    found = find_references([eighth], None, gallery, Heard())[eighth]
    assert found.missing.endswith(f"({tmp_path} cannot be read: Permission denied)")


def test_without_a_reference_the_truth_is_disagreed_with(mission: Mission, tmp_path: Path) -> None:
    eighth = copied(mission.folder / "student-onnx", tmp_path / "eighth", "int8")
    heard = Heard()
    (record,) = measure([eighth], QUICK, truth=Truth(mission.recipe.data), watch=heard)
    accuracy = record["accuracy"]
    assert accuracy["disagreements"]["n"] == round((1 - accuracy["value"]) * accuracy["n"])
    assert all(each["reference"] is None for each in accuracy["disagreements"]["shown"])
    assert any("eighth: no accuracy delta" in line for line in heard.said)


def test_a_float_export_alone_is_not_run_again_here(
    mission: Mission, gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kept answers are of no use, hours of torch are not spent on what loses nothing."""
    student = shutil.copytree(mission.folder / "student", tmp_path / "student")
    whole = copied(mission.folder / "student-onnx", tmp_path / "whole")
    other = replace(gallery.data, test=0.5)
    gallery.data = other
    monkeypatch.setattr(references, "_predict", lambda *_: pytest.fail("it was run"))
    found = find_references([whole], None, gallery, Heard())[whole]
    assert f"{student} keeps no answers to these images" in found.missing


def _rewrite(artifact: Path, name: str, content: Any) -> None:
    """Replace a file of an artifact, and what the manifest says of it."""
    from edgekd.files import sha256

    (artifact / name).write_text(json.dumps(content))
    manifest = json.loads((artifact / "manifest.json").read_text())
    size = (artifact / name).stat().st_size
    manifest["files"][name] = {"sha256": sha256(artifact / name), "bytes": size}
    (artifact / "manifest.json").write_text(json.dumps(manifest))


def _parent(network: Path) -> dict[str, str]:
    return {"sha256": Artifact.open(network).sha256, "name": network.name}
