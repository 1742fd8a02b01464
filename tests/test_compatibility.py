"""Files of older releases: each opens, goes on and is reported today, or says plainly why not.

``golden_files/COMMIT.tar.xz`` holds what edgekd left at a commit, made by the commands in
:data:`COMMANDS` on digits of 8x8 pixels; no file in it was touched since. The networks' weights are
mostly nought and hardly move (a learning rate of 1e-42), so that they pack well; what does move are
the statistics of the batch norms, which tell one order of images from another.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgekd.agent.failures import AgentError
from edgekd.agent.tasks import AGENT as SPOKEN
from edgekd.agent.worker import read_job
from edgekd.artifact import MANIFEST, Artifact, read_manifest
from edgekd.boards import read_board
from edgekd.cards import card_of
from edgekd.devices import AGENT
from edgekd.files import read_json, sha256
from edgekd.models import from_artifact
from edgekd.recipe import Recipe, recipe_from
from edgekd.schema import ALL, CHECKPOINT, RECORD, Schema
from tests.cli.conftest import Command, edgekd

__all__ = ["edgekd"]  # a fixture
GOLDEN = Path(__file__).parent / "golden_files"
FIRST, SECOND, BUDGETS = "6e421a4", "7f215b0", "7ee604b"
"""The first release; the one that knew no peers yet; the one that brought budgets."""
COMMANDS = {
    "whole": "teach --recipe tiny.toml --teacher resnet8:w.safetensors -o whole",
    "cut": "teach --recipe tiny.toml --teacher resnet8:w.safetensors -o cut",  # killed half-way
    "run": "run run.toml --baseline none -o run",
    "mission": "run run.toml --baseline none --budget p95<=2s,top1_drop<=99% --students resnet8 "
    "-o mission",  # of which only the figures were kept
    "comparison": "compare --recipe run.toml --method ce+kd --seeds 1 -o comparison",
}
FILES = {  # of each kind and version, one that an edgekd of that time wrote
    "manifest": {1: f"{FIRST}/run/student-onnx/manifest.json"},
    "proof": {1: f"{BUDGETS}/run/student-onnx/proof/local.json"},
    "record": {1: f"{FIRST}/run/profile.json"},
    "run": {1: f"{FIRST}/run/run.json"},  # which says no version
    "scout": {1: f"{BUDGETS}/mission/scout.json"},
    "comparison": {1: f"{BUDGETS}/comparison/compare.json"},
    "outcome": {1: f"{BUDGETS}/mission/resnet8-8px-2ep/outcome-auto.json"},
    "checkpoint": {1: f"{BUDGETS}/cut/training/checkpoint.pt"},
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All golden files; only to read."""
    place = tmp_path_factory.mktemp("golden")
    for packed in GOLDEN.glob("*.tar.xz"):
        with tarfile.open(packed) as tar:
            # as filter="data", which Python knows since 3.11.4
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(place / packed.name.partition(".")[0])
    return place


@pytest.fixture
def old(opened: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A generation's folder that may be changed, as where the commands are given."""

    def copied(generation: str) -> Path:
        folder = shutil.copytree(opened / generation, tmp_path / generation)
        monkeypatch.chdir(folder)
        return folder

    return copied


# ---- versions ----


def test_the_golden_files_are_few() -> None:
    assert sum(file.stat().st_size for file in GOLDEN.iterdir()) < 1_000_000


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.kind)
def test_an_old_file_of_every_earlier_version_is_read_as_todays(
    schema: Schema, opened: Path
) -> None:
    """Whoever raises a version keeps a file of the one before, and writes a reader."""
    files = FILES[schema.kind]
    assert set(range(1, max(2, schema.version))) <= set(files), "keep a file of the version before"
    for version, name in files.items():
        table = _read(opened / name)
        assert table.get(schema.key, schema.unsaid) == version
        found = schema.read(table, opened / name)
        assert found.get(schema.key, schema.unsaid) == schema.version


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.kind)
def test_the_keys_of_every_version_are_known(schema: Schema) -> None:
    known = json.loads((GOLDEN / "keys.json").read_text())
    assert schema is RECORD or str(schema.version) in known[schema.kind]


def test_both_ends_of_the_link_speak_one_language(tmp_path: Path) -> None:
    """The agent travels with each job, so there is no older one; its first jobs are refused."""
    assert AGENT == SPOKEN
    (tmp_path / "job.json").write_text(json.dumps({"agent": AGENT - 1, "task": "profile"}))
    with pytest.raises(AgentError, match=f"is for agent {AGENT - 1}, this is {AGENT}"):
        read_job(tmp_path / "job.json")


def _read(file: Path) -> dict[str, Any]:
    if file.suffix == ".pt":
        found: dict[str, Any] = torch.load(file, weights_only=True)
        return found
    table = read_json(file)
    return dict(table[0] if isinstance(table, list) else table)


# ---- artifacts ----


@pytest.mark.parametrize("generation", [FIRST, BUDGETS])
def test_old_artifacts_open_with_their_hashes_and_have_a_card(
    generation: str, opened: Path
) -> None:
    folders = [file.parent for file in (opened / generation).rglob(MANIFEST)]
    assert len(folders) >= 5
    for folder in folders:
        artifact = Artifact.open(folder)
        assert recipe_from(artifact.manifest["recipe"]).data.size == 8
        assert artifact.manifest["model"]["name"] in card_of(folder)
        if artifact.manifest["kind"] == "network":
            assert from_artifact(artifact).parameters == 78_042
    for file in (opened / generation).rglob("*.toml"):
        if file.name == "recipe.toml":
            assert Recipe.load(file).data.source == "digits"


@pytest.mark.slow
def test_a_first_network_is_exported_today(old: Callable[[str], Path], edgekd: Command) -> None:
    folder = old(FIRST)
    then = read_manifest(folder / "run/student-onnx")
    answer = edgekd("export", "run/student", "--onnx", "-o", "again")
    assert answer.code == 0, answer.err
    now = read_manifest(folder / "again")
    assert now["parent"]["sha256"] == then["parent"]["sha256"]
    assert now["input"] == then["input"]
    assert now["labels"] == then["labels"]


@pytest.mark.parametrize(
    "generation", [pytest.param(FIRST, marks=pytest.mark.slow, id=FIRST), BUDGETS]
)
def test_an_old_file_is_measured_verified_and_deployed_today(
    generation: str, old: Callable[[str], Path], edgekd: Command
) -> None:
    folder = old(generation)
    if generation == FIRST:  # which kept no proofs
        asked = ("--max-seconds", "0.3", "--threads", "1")
        assert edgekd("verify", "run/student-onnx", "--device", "local").code == 2
        answer = edgekd("profile", "run/student-onnx", *asked, "--data", "digits")
        assert answer.code == 0, answer.err
    answer = edgekd("verify", "run/student-onnx", "--device", "local")
    assert answer.code in (0, 1)  # it may be slower today
    assert "359 same class" in answer.out
    answer = edgekd("deploy", "run/student-onnx", "-o", "deployed")
    assert answer.code == 0, answer.err
    assert sha256(folder / "deployed/model.onnx") == sha256(folder / "run/student-onnx/model.onnx")


# ---- run folders ----


@pytest.mark.parametrize(("generation", "place"), [
    (FIRST, "run"), (BUDGETS, "run"), (BUDGETS, "mission"), (BUDGETS, "comparison"),
])  # fmt: skip
def test_an_old_run_is_reported_today(
    generation: str, place: str, old: Callable[[str], Path], edgekd: Command
) -> None:
    folder = old(generation) / place
    answer = edgekd("report", str(folder))
    assert answer.code == 0, answer.err
    said = read_json(folder / "report.json")
    names = {"run": "resnet8", "mission": "p95<=2s", "comparison": "ce+kd"}
    assert names[place] in (folder / "report.md").read_text().replace(" ", "")
    assert said["artifacts"] or place == "mission"


NEWER = (
    "run/run.json",
    "run/profile.json",
    "run/student-onnx/proof/local.json",
    "run/student/manifest.json",
    "mission/scout.json",
    "comparison/compare.json",
)


@pytest.mark.parametrize("name", NEWER)
def test_a_file_of_a_newer_edgekd_is_refused_and_left_alone(
    name: str, old: Callable[[str], Path], edgekd: Command
) -> None:
    file = old(BUDGETS) / name
    table = read_json(file)
    for entry in table if isinstance(table, list) else [table]:
        entry["schema_version"] = 99
    file.write_text(json.dumps(table))
    place = name.partition("/")[0]
    asked = [COMMANDS[place].split()] if name.endswith(("run.json", "compare.json")) else []
    for words in (["report", place], *asked):
        answer = edgekd(*words)
        said = " ".join(answer.err.split())
        assert answer.code in (1, 2)
        assert f"{file.name} has schema 99; this edgekd reads 1. Update edgekd, or" in said
        assert read_json(file) == table


@pytest.mark.parametrize("place", ["whole", "run", "comparison"])
def test_what_is_finished_in_an_old_folder_is_not_done_again(
    place: str, old: Callable[[str], Path], edgekd: Command
) -> None:
    folder = old(BUDGETS)
    before = _models(folder / place)
    answer = edgekd(*COMMANDS[place].split())
    assert answer.code == 0, answer.err
    assert "already" in answer.err
    assert _models(folder / place) == before


@pytest.mark.parametrize("generation", [SECOND, BUDGETS])
def test_an_old_training_goes_on_to_the_very_same_network(
    generation: str, opened: Path, old: Callable[[str], Path], edgekd: Command
) -> None:
    folder, whole = old(generation), opened / BUDGETS / "whole"
    state = CHECKPOINT.read(_read(folder / "cut/training/checkpoint.pt"), folder)
    assert state["step"] > 0
    answer = edgekd(*COMMANDS["cut"].split())
    assert answer.code == 0, answer.err
    then, now = (load_file(path / "model.safetensors") for path in (whole, folder / "cut"))
    torch.testing.assert_close(now, then, rtol=1e-3, atol=1e-5)  # processors round otherwise
    lines = (folder / "cut/training/metrics.jsonl").read_text().splitlines()
    assert len(lines) == len((whole / "training/metrics.jsonl").read_text().splitlines())


@pytest.mark.parametrize("place", ["whole", "cut", "run"])
def test_trainings_of_the_first_release_are_not_gone_on_with(
    place: str, old: Callable[[str], Path], edgekd: Command
) -> None:
    """They told trainings apart by other settings, and decided the precision by themselves."""
    folder = old(FIRST)
    before = _models(folder)
    answer = edgekd(*COMMANDS[place].split())
    assert answer.code == 2
    assert "or of an edgekd that told trainings apart otherwise" in answer.err.replace("\n", " ")
    assert "--restart" in answer.err
    assert _models(folder) == before


def test_an_old_device_profile_is_read(opened: Path) -> None:
    board = read_board(str(opened / BUDGETS / "devices" / "pi.toml"))
    assert board.connect.address == "ssh://pi@board:2222"


def _models(folder: Path) -> dict[str, str]:
    files = [*folder.rglob("model.*"), *folder.rglob("*.pt")]
    return {str(file.relative_to(folder)): sha256(file) for file in files}
