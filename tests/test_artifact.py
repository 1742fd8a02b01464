"""An artifact is what its manifest says, or it is not opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.artifact import MANIFEST, Artifact, check_room, create, is_artifact, read_manifest
from edgekd.errors import ArtifactError, UsageError
from edgekd.files import DRAFT, sha256

HEAD = {"kind": "network", "role": "student", "labels": ["a", "b"]}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A finished artifact of two files."""
    path = tmp_path / "artifact"
    with create(path, HEAD) as folder:
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "recipe.toml").write_text("[train]\n")
    return path


@pytest.fixture
def edit(made: Path) -> Callable[..., None]:
    """Change keys of its manifest, as a hand or a program might."""

    def apply(**changes: Any) -> None:
        manifest = json.loads((made / MANIFEST).read_text())
        (made / MANIFEST).write_text(json.dumps(manifest | changes))

    return apply


@pytest.mark.parametrize("name", ["recipe.toml", "model.onnx", "MODEL_CARD.md"])
def test_a_folder_with_files_of_others_is_no_place_for_one(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    check_room(tmp_path)
    check_room(tmp_path / "nowhere")
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"holds {name}, but no manifest.json.* Move it away"):
        check_room(tmp_path)


def test_what_a_killed_process_left_is_no_file_of_others(made: Path) -> None:
    check_room(made)
    (made / MANIFEST).unlink()
    (made / f"{DRAFT}abc").mkdir()
    check_room(made)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_what_was_created_opens_with_its_files_and_hashes(made: Path) -> None:
    found = Artifact.open(made)
    assert found.manifest["files"]["model.safetensors"] == {
        "sha256": sha256(made / "model.safetensors"),
        "bytes": 7,
    }
    assert {key: found.manifest[key] for key in HEAD} == HEAD
    assert found.manifest["schema_version"] == 1
    assert found.manifest["created"].endswith("+00:00")
    assert found.model_file == made / "model.safetensors"
    assert found.sha256 == sha256(made / MANIFEST)
    assert names(made) == [MANIFEST, "model.safetensors", "recipe.toml"]
    assert is_artifact(made)


def test_creating_keeps_what_else_stands_there(made: Path) -> None:
    (made / "training").mkdir()
    (made / "training" / "metrics.jsonl").write_text("{}")
    with create(made, HEAD) as folder:
        (folder / "model.safetensors").write_bytes(b"better weights")
    assert (made / "training" / "metrics.jsonl").read_text() == "{}"
    assert Artifact.open(made).model_file.read_bytes() == b"better weights"


def test_a_failure_while_creating_leaves_the_old_artifact_whole(made: Path) -> None:
    before = names(made)

    def fail() -> None:
        with create(made, HEAD) as folder:
            (folder / "model.safetensors").write_bytes(b"ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(made) == before
    assert Artifact.open(made).model_file.read_bytes() == b"weights"


def test_a_failure_while_files_are_put_in_place_leaves_no_artifact(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target.name == "recipe.toml":
            raise KeyboardInterrupt
        return real(self, target)

    def fail() -> None:
        with create(made, HEAD) as folder:
            (folder / "model.safetensors").write_bytes(b"new")
            (folder / "recipe.toml").write_text("new")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not is_artifact(made)  # half of it is new: it must not pass for whole
    assert names(made) == []


def test_a_file_where_the_folder_should_be_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(UsageError, match=r"cannot write .*taken: File exists"):
        create(tmp_path / "taken", HEAD).__enter__()


def test_a_changed_byte_is_found(made: Path) -> None:
    (made / "model.safetensors").write_bytes(b"Weights")
    with pytest.raises(ArtifactError, match=r"model.safetensors was changed after it was made"):
        Artifact.open(made)


@pytest.mark.parametrize("name", ["model.safetensors", "recipe.toml"])
def test_a_missing_file_is_found(made: Path, name: str) -> None:
    (made / name).unlink()
    with pytest.raises(ArtifactError, match=rf"not complete: {name} is missing"):
        Artifact.open(made)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "training/x", "..", ""])
def test_a_name_outside_the_folder_is_refused(
    made: Path, edit: Callable[..., None], name: str
) -> None:
    (made.parent / "secret").write_text("x")
    (made / "training").mkdir()
    (made / "training" / "x").write_text("x")
    file = made / name
    entry = {"sha256": sha256(file) if file.is_file() else "", "bytes": 1}
    own = json.loads((made / MANIFEST).read_text())["files"]
    edit(files=own | {name: entry})
    with pytest.raises(ArtifactError, match=r"outside its folder"):
        Artifact.open(made)


def test_a_model_that_the_manifest_does_not_vouch_for_is_refused(
    made: Path, edit: Callable[..., None]
) -> None:
    edit(files={})
    with pytest.raises(ArtifactError, match=r"model.safetensors was changed"):
        Artifact.open(made)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "has schema 2; this edgekd reads 1. Update edgekd, or make"),
        ({"schema_version": None}, "has schema None"),
        ({"kind": "zip"}, "kind is 'zip'; expected one of network, onnx"),
        ({"files": ["model.safetensors"]}, "files is .*; expected object"),
        (
            {"files": {"model.safetensors": "5f"}},
            "files.model.safetensors is '5f'; expected object",
        ),
    ],
)
def test_a_manifest_of_another_form_is_refused(
    made: Path, edit: Callable[..., None], changes: dict[str, Any], message: str
) -> None:
    edit(**changes)
    with pytest.raises(ArtifactError, match=message):
        Artifact.open(made)


@pytest.mark.parametrize("text", ["", "{", "\xff", "[" * 5000])
def test_a_manifest_that_is_not_json_is_refused(made: Path, text: str) -> None:
    (made / MANIFEST).write_text(text, "latin-1")
    with pytest.raises(ArtifactError, match=r"manifest.json cannot be read"):
        read_manifest(made)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"a"'])
def test_a_manifest_that_is_no_table_is_refused(made: Path, text: str) -> None:
    (made / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match="has schema None"):
        read_manifest(made)


@pytest.mark.parametrize("place", ["empty", "absent", "file"])
def test_a_place_without_a_manifest_is_no_artifact(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert not is_artifact(tmp_path / place)
    with pytest.raises(ArtifactError, match=r"no manifest.json|cannot be read|there is no "):
        Artifact.open(tmp_path / place)
