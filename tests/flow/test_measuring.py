"""Measuring, exporting and the checkup: what they take, what they refuse, what they tell."""

from __future__ import annotations

import builtins
import ctypes
import errno
import json
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx as onnx_package
import pytest
from PIL import Image

import edgekd
from edgekd.agent.tensorrt.cache import side_file
from edgekd.agent.tensorrt.making import make
from edgekd.agent.tensorrt.spec import Batch, BuildSpec
from edgekd.artifact import Artifact, create
from edgekd.errors import DataError, UsageError
from edgekd.files import sha256
from edgekd.flow import checkup as module
from edgekd.flow.checkup import checkup
from edgekd.flow.exporting import already_exported, export_network, recipe_of
from edgekd.flow.findings import Proofs
from edgekd.flow.measuring import Truth, measure, model_file
from edgekd.loading import open_splits
from edgekd.profiling import Policy
from edgekd.recipe import Data, Export
from edgekd.records import beside
from tests.flow.conftest import Heard, Mission
from tests.flow.copies import copied

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
    truth = Truth(mission.recipe.data)
    records = measure([student, other], QUICK, truth=truth, proofs=Proofs.NONE)
    assert len(records) == 2
    assert all("comparison" not in record for record in records)
    first, second = (record["accuracy"] for record in records)
    kept = {
        name: Artifact.open(mission.folder / name).manifest["metrics"]["test"]["top1"]
        for name in ("student", "teacher")
    }
    assert first["value"] == pytest.approx(kept["student"])
    assert second["value"] != pytest.approx(kept["teacher"])  # it was shown other pixels


def test_what_was_found_of_an_artifact_is_kept_in_it(mission: Mission, tmp_path: Path) -> None:
    """For ``edgekd verify``: the record, and what it said image by image."""
    made = copied(mission.folder / "student-onnx", tmp_path / "made")
    plain = shutil.copy(made / "model.onnx", tmp_path / "plain.onnx")
    truth = Truth(mission.recipe.data)
    heard = Heard()
    record, _, _ = measure([made, Path(plain)], QUICK, truth=truth, watch=heard)
    (file,) = (made / "proof").iterdir()
    kept = json.loads(file.read_text())
    assert (file.name, kept["record"]) == ("local.json", {**record, "command": None})
    assert kept["data"]["source"] == "digits"
    assert len(kept["predictions"]) == kept["images"]["n"] == record["accuracy"]["n"]
    assert [int(np.argmax(a)) for a in kept["answers"]] == kept["predictions"][
        : len(kept["answers"])
    ]
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["made"]  # a file has no place
    file.unlink()
    measure([made], QUICK, proofs=Proofs.NONE)
    assert not list((made / "proof").iterdir())


def test_end_to_end_the_device_decodes_what_the_host_would(
    mission: Mission, tmp_path: Path
) -> None:
    made = copied(mission.folder / "student-onnx", tmp_path / "made")
    (record,) = measure(
        [made], replace(QUICK, clock="end_to_end"), truth=Truth(mission.recipe.data)
    )
    assert (record["policy"]["clock"], record["policy"]["input"]) == (
        "end_to_end",
        "encoded images",
    )
    kept = json.loads((made / "proof" / "local.json").read_text())
    n, said = record["accuracy"]["n"], [int(np.argmax(a)) for a in kept["answers"]]
    targets = open_splits(mission.recipe.data).test.targets
    by_class = np.argsort(targets, kind="stable")  # one of each, as far as eight go
    assert said == [kept["predictions"][by_class[index * n // 8]] for index in range(8)]


def test_a_proof_that_cannot_be_kept_loses_no_measurement(mission: Mission, tmp_path: Path) -> None:
    made = copied(mission.folder / "student-onnx", tmp_path / "made")
    (made / "proof").write_text("a file in the way")
    heard = Heard()
    (record,) = measure([made], QUICK, watch=heard)
    assert record["timing"]["n"] > 1
    assert [line for line in heard.said if "made: no proof was kept: cannot write" in line]


def test_a_proof_that_is_required_is_kept_or_the_measurement_fails(
    mission: Mission, tmp_path: Path
) -> None:
    made, out = copied(mission.folder / "student-onnx", tmp_path / "made"), tmp_path / "it.json"
    (made / "proof").write_text("a file in the way")
    with pytest.raises(UsageError, match=r"cannot write .*proof"):
        measure([made], QUICK, out=out, proofs=Proofs.REQUIRED)
    assert not out.exists()


def test_where_the_records_are_nothing_is_missing(
    mission: Mission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was cut off takes them for a whole measurement: they are written last."""
    there = []

    def written(path: Path, value: Any) -> None:
        there.extend(sorted(file.name for file in path.parent.glob("*.json*")))

    monkeypatch.setattr("edgekd.flow.measuring.write_json", written)
    made = copied(mission.folder / "student-onnx", tmp_path / "made")
    measure([made], QUICK, out=tmp_path / "it.json")
    assert there == ["it.samples.jsonl"]


class Exporting(Heard):
    """Somebody else exports into the same folder, once the measurement has begun."""

    def __init__(self, source: Path, out: Path) -> None:
        super().__init__()
        self._source, self._out, self._done = source, out, False

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        super().progress(stage, done, total, note)
        if not self._done:
            copied(self._source, self._out, noise=0.5)
        self._done = True


def test_what_was_made_again_meanwhile_gets_no_proof(mission: Mission, tmp_path: Path) -> None:
    """What was measured is known by the file that was sent."""
    made = copied(mission.folder / "student-onnx", tmp_path / "made")
    before = sha256(made / "model.onnx")
    heard = Exporting(mission.folder / "student-onnx", made)
    (record,) = measure([made], QUICK, out=tmp_path / "profile.json", watch=heard)
    assert heard.stages[0][1] < heard.stages[0][2]  # in the middle of it
    assert before != sha256(made / "model.onnx")
    assert record["artifact"]["sha256"] == before
    assert json.loads((tmp_path / "profile.json").read_text()) == [record]
    assert not (made / "proof").exists()
    words = f"made: no proof was kept: {made} was made again while it was measured: model.onnx has"
    assert [line for line in heard.said if line.startswith(words)]


def test_a_file_that_cannot_be_read_is_named(
    mission: Mission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    file = Path(shutil.copy(mission.folder / "student-onnx" / "model.onnx", tmp_path / "m.onnx"))
    monkeypatch.setattr("edgekd.profiling.sha256", refused)
    with pytest.raises(
        UsageError, match=rf"^cannot read {file}: Permission denied\. Expected a mod"
    ):
        measure([file], QUICK)


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


# ---- engines ----

FAKE = runpy.run_path(str(Path(__file__).parents[1] / "agent" / "fake_tensorrt.py"))


@pytest.fixture
def engine(
    mission: Mission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], Path]:
    """An engine of the student, made by one release, for a machine that has another."""

    def make_one(made_by: str, here: str) -> Path:
        source = mission.folder / "student-onnx"
        onnx = Path(shutil.copy(source / "model.onnx", tmp_path / "model.onnx"))
        graph = onnx_package.load(onnx)
        metadata = {entry.key: entry.value for entry in graph.metadata_props}
        with monkeypatch.context() as patch:
            patch.setattr(ctypes, "CDLL", FAKE["libraries"](FAKE["Libcuda"](), FAKE["Libcudart"]()))
            patch.setitem(sys.modules, "tensorrt", FAKE["make"](made_by).module)
            made = make(BuildSpec(onnx, batch=Batch(1, 1, 8)), metadata)
        manifest = json.loads((source / "manifest.json").read_text())
        del manifest["files"]
        with create(tmp_path / "engine", {**manifest, "kind": "tensorrt"}) as folder:
            onnx.rename(folder / "model.onnx")
            made.plan.rename(folder / "model.plan")
            side_file(made.plan).rename(folder / "model.plan.json")
        (tmp_path / "site").mkdir()
        fake = str(Path(__file__).parents[1] / "agent" / "fake_tensorrt.py")
        (tmp_path / "site" / "sitecustomize.py").write_text(
            f"import runpy\nrunpy.run_path({fake!r})['install']({here!r})\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return tmp_path / "engine"

    return make_one


def test_an_engine_is_measured_in_tensorrt_and_apart_from_onnx(
    engine: Callable[[str, str], Path], mission: Mission
) -> None:
    """The device has another release: it gets the graph as well, and builds the engine again."""
    made, student = engine("10.13.3.9", "10.3.0"), mission.folder / "student-onnx"
    heard = Heard()
    truth = Truth(mission.recipe.data)
    records = measure([made, student], QUICK, truth=truth, watch=heard, proofs=Proofs.NONE)
    first, second = records  # and no comparison: two runtimes are two jobs
    assert (first["runtime"]["name"], first["runtime"]["version"]) == ("tensorrt", "10.3.0")
    assert (second["runtime"]["name"], second["policy"]["transfers"]) == ("onnxruntime", None)
    assert (first["policy"]["transfers"], first["policy"]["cuda_graph"]) == ("included", False)
    assert second["policy"]["cuda_graph"] is None
    assert first["evidence"]["asked"]["runtime"] == "trt"
    artifact = first["artifact"]
    assert (artifact["format"], artifact["opset"]) == ("plan", None)
    assert (artifact["precision_asked"], artifact["precision_found"]) == ("fp32", "fp32")
    assert artifact["size_bytes"] == (made / "model.plan").stat().st_size
    reason = "TensorRT 10.3.0 here, the engine is for 10.13.3.9"
    assert artifact["sha256"] == sha256(made / "model.plan")  # what was given
    ran = artifact["engine"]  # and what was measured in its place
    assert ran["sha256"] != artifact["sha256"]
    assert (ran["rebuilt"], ran["key"]["tensorrt"]) == (reason, "10.3.0")
    assert any(reason in line for line in first["verdict"]["reasons"])
    assert [line for line in heard.said if reason in line] == [f"{reason}: building it again"]
    assert second["artifact"]["engine"] is None
    assert first["accuracy"]["value"] == second["accuracy"]["value"]
    schema = json.loads((Path(edgekd.__file__).parent / "profile.schema.json").read_text())
    jsonschema.validate(json.loads(json.dumps(first)), schema)


def test_the_gpus_own_clock_leaves_transfers_out(engine: Callable[[str, str], Path]) -> None:
    made = engine("10.3.0", "10.3.0")
    (record,) = measure([made], replace(QUICK, clock="compute"))
    assert (record["policy"]["clock"], record["policy"]["transfers"]) == ("compute", "excluded")
    schema = json.loads((Path(edgekd.__file__).parent / "profile.schema.json").read_text())
    jsonschema.validate(json.loads(json.dumps(record)), schema)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (replace(QUICK, runtime="openvino", provider=""), "which openvino cannot run. Measure the"),
        (replace(QUICK, spinning=True), "--spinning is a knob of ONNX Runtime's and trt has none"),
        (replace(QUICK, provider="CUDAExecutionProvider"), "--provider is a knob of ONNX Runtime"),
    ],
    ids=["runtime", "spinning", "provider"],
)
def test_an_engine_is_refused_elsewhere(
    policy: Policy, message: str, mission: Mission, tmp_path: Path
) -> None:
    (tmp_path / "model.plan").write_bytes(b"plan")
    heard = Heard()
    with pytest.raises(UsageError, match=message):
        measure([mission.folder / "student-onnx", tmp_path / "model.plan"], policy, watch=heard)
    assert heard.stages == []


def test_what_goes_with_a_model(tmp_path: Path) -> None:
    names = ("model.onnx", "model.onnx.data", "model.plan", "model.plan.json", "other.plan")
    for name in names:
        (tmp_path / name).write_text(name)
    beside_of = {name: [file.name for file in beside(tmp_path / name)] for name in names}
    assert beside_of["model.onnx"] == ["model.onnx.data"]
    assert beside_of["model.plan"] == ["model.plan.json", "model.onnx", "model.onnx.data"]
    assert beside_of["other.plan"] == []


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
