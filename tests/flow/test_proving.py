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
from edgekd.hiding import nickname
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
    called = nickname(board)
    file = proved(made, board)
    assert file.name == f"{called}.json"
    assert "board" not in file.read_text()
    assert read(made, board).device == read(made, called).device == called
    with pytest.raises(UsageError, match=f"holds no proof for pi5; there is one for {called}"):
        read(made, "pi5")
    proved(made, "my+board")
    with pytest.raises(UsageError, match=r"is the proof of my\+board, not of my-board"):
        read(made, "my-board")  # the same file name


def test_a_proof_of_an_address_by_its_own_name_is_read(made: Path) -> None:
    """As they were called at first."""
    board = "ssh://pi@board:2222"
    file = proved(made, board)
    table = json.loads(file.read_text()) | {"device": board}
    file.with_name("ssh---pi-board-2222.json").write_text(json.dumps(table))
    file.unlink()
    assert read(made, board).device == board


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


def test_what_was_made_again_meanwhile_gets_no_proof(made: Path) -> None:
    measured = record(sha256(made / "model.onnx"))
    artifact(made, seed=1)
    now = sha256(made / "model.onnx")[:12]
    message = rf"made again while it was measured: model\.onnx has sha256 {now} now, .* measured "
    with pytest.raises(UsageError, match=message + measured["artifact"]["sha256"][:12]):
        proved(made, record=measured)
    assert not (made / "proof").exists()


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
        ({"record": {}}, "is not a whole proof: it has no edgekd_version"),
        ({"predictions": [1]}, "1 predictions of 3 images"),
        ({"predictions": None}, "is not a whole proof"),
        ({"answers": 3}, "is not a whole proof"),
        ({"model_sha256": "00"}, "its record is of another model than it says"),
        ({"files": None}, "files is None; expected object"),
    ],
)
def test_a_proof_that_was_written_by_hand(change: dict[str, Any], message: str, made: Path) -> None:
    file = proved(made)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ArtifactError, match=message) as refused:
        read(made, "local")
    assert "emove it, and run edgekd profile" in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"schema_version": 1}', "\udcff"])
def test_a_proof_that_cannot_be_read(text: str, made: Path) -> None:
    proved(made).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(EdgeKDError, match=r"local\.json (cannot be read|has|is not a whole)"):
        read(made, "local")
    with pytest.raises(EdgeKDError, match=r"local\.json (cannot be read|has|is not a whole)"):
        read(made, "pi5")
