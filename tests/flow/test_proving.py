"""Proofs: kept whole, read strictly, and never of another model than the one that is there."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from edgekd.artifact import Artifact
from edgekd.errors import ArtifactError, EdgeKDError, UsageError
from edgekd.files import sha256
from edgekd.flow.proving import Proof, keep, read
from tests.flow.kept import DIGITS, artifact, record

LOGITS = [[0.5, -1.25], [3.0, 2.0]]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return artifact(tmp_path / "student-onnx")


def proved(path: Path, device: str = "local", **more: Any) -> Path:
    given: dict[str, Any] = {
        "record": record(sha256(path / "model.onnx")),
        "data": DIGITS,
        "images_sha256": "ab" * 32,
        "predictions": [3, 1, 4],
        "answers": LOGITS,
        **more,
    }
    return keep(path, device, **given)


def test_what_is_kept_is_read_back(made: Path) -> None:
    file = proved(made)
    assert file == made / "proof" / "local.json"
    proof = read(made, "local")
    assert proof == Proof(
        device="local",
        model_sha256=sha256(made / "model.onnx"),
        record=record(sha256(made / "model.onnx")),
        data=DIGITS,
        images_sha256="ab" * 32,
        predictions=(3, 1, 4),
        answers=((0.5, -1.25), (3.0, 2.0)),
    )
    assert json.loads(file.read_text())["images"] == {"sha256": "ab" * 32, "n": 3}
    Artifact.open(made)  # it is still whole
    proved(made, predictions=None, answers=None, data=None, images_sha256=None)
    proof = read(made, "local")  # the newest one
    assert (proof.data, proof.predictions, proof.answers) == (None, None, None)
    assert [path.name for path in (made / "proof").iterdir()] == ["local.json"]


def test_a_logit_that_is_no_number_is_kept_as_none(made: Path) -> None:
    proved(made, answers=[[math.nan, math.inf, 1.0]])
    assert read(made, "local").answers == ((None, None, 1.0),)
    proved(made, answers=[[None, 2.0, 1.0]])  # as the agent tells it
    assert read(made, "local").answers == ((None, 2.0, 1.0),)


def test_every_device_has_its_own(made: Path) -> None:
    board = "ssh://pi@board:2222"
    assert proved(made, board).name == "ssh---pi-board-2222.json"
    assert read(made, board).device == board
    with pytest.raises(UsageError, match="holds no proof for pi5; there is one for ssh://pi@board"):
        read(made, "pi5")
    with pytest.raises(UsageError, match="is the proof of ssh://pi@board:2222, not of ssh:--"):
        read(made, "ssh:--pi@board:2222")  # the same file name


def test_none_yet(made: Path) -> None:
    asked = f"nor for another device. Run edgekd profile {made} --device local first"
    with pytest.raises(UsageError, match=asked):
        read(made, "local")


def test_a_proof_does_not_survive_another_export(made: Path) -> None:
    proved(made)
    artifact(made, seed=0)
    assert read(made, "local").predictions == (3, 1, 4)  # the same file, byte for byte
    artifact(made, seed=1)
    message = (
        "proof for local is of another model: model.onnx has sha256 .* and had .*made again since"
    )
    with pytest.raises(UsageError, match=message):
        read(made, "local")


def test_weights_beside_the_model_count_too(made: Path) -> None:
    proved(made)
    manifest = json.loads((made / "manifest.json").read_text())
    weights = made / "model.onnx.data"
    weights.write_bytes(b"weights")
    manifest["files"][weights.name] = {"sha256": sha256(weights), "bytes": 7}
    (made / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match=r"model\.onnx\.data has sha256 .* and had none when"):
        read(made, "local")


def test_a_model_that_was_changed_is_refused(made: Path) -> None:
    proved(made)
    (made / "model.onnx").write_bytes(b"other")
    with pytest.raises(ArtifactError, match="was changed after it was made"):
        read(made, "local")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "has schema 2; this edgekd reads 1"),
        ({"record": {}}, "is not a whole proof: 'artifact'"),
        ({"predictions": [1]}, "1 predictions of 3 images"),
        ({"predictions": None}, "is not a whole proof"),
        ({"answers": 3}, "is not a whole proof"),
        ({"model_sha256": "00"}, "its record is of another model than it says"),
        ({"files": None}, "has no files"),
    ],
)
def test_a_proof_that_was_written_by_hand(change: dict[str, Any], message: str, made: Path) -> None:
    file = proved(made)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ArtifactError, match=message) as refused:
        read(made, "local")
    assert "Remove it, and run edgekd profile" in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"schema_version": 1}', "\udcff"])
def test_a_proof_that_cannot_be_read(text: str, made: Path) -> None:
    proved(made).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(EdgeKDError, match=r"local\.json (cannot be read|has)"):
        read(made, "local")
    with pytest.raises(EdgeKDError, match=r"local\.json (cannot be read|has)"):
        read(made, "pi5")
