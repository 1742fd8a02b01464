"""The TensorRT format: a graph for the device's release, an engine from there, a verdict on it.

The device is this machine with a TensorRT that is none (``tests/agent/fake_tensorrt.py``): its
engines compute in ONNX Runtime, so the logits that come back are those of the file that was sent.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgekd.export.tensorrt as plugin
from edgekd.artifact import Artifact
from edgekd.data import Images
from edgekd.devices.local import Local
from edgekd.errors import AccuracyError, DeviceError, UnknownNameError
from edgekd.export import Order, Written, export
from edgekd.export._network import reference
from edgekd.export._opset import lower
from edgekd.export._releases import release_of
from edgekd.export._running import answers
from edgekd.export.onnx import write_onnx
from edgekd.models import Backbone, from_artifact
from edgekd.recipe import Export
from edgekd.targets import Target

Draw = Callable[[int, int], Images]
FAKE = Path(__file__).parents[1] / "agent" / "fake_tensorrt.py"
TRTEXEC = Path(__file__).parents[1] / "fixtures" / "trtexec"
TARGET = Target(runtime="trt")


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give the processes of the agent a release of TensorRT."""

    def set_up(version: str, **world: Any) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(
            f"import runpy\nrunpy.run_path({str(FAKE)!r})['install']({version!r}, **{world!r})\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    return set_up


@pytest.fixture(scope="module")
def written(
    trained: Artifact, images: Draw, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Written]:
    """The float32 graph of the network, written once."""
    folder = tmp_path_factory.mktemp("written")
    order = Order(Export(samples=60), images(60, 32))
    return folder / "model.onnx", write_onnx(from_artifact(trained), folder, order)


@pytest.fixture
def quick(written: tuple[Path, Written], monkeypatch: pytest.MonkeyPatch) -> None:
    """Take that graph, for tests of what comes after it."""
    file, record = written

    def copied(backbone: Backbone, folder: Path, order: Order) -> Written:
        model = onnx.load(file)
        if order.target.opset < 18:
            lower(model, order.target.opset)
        onnx.save(model, folder / "model.onnx")
        return record

    monkeypatch.setattr(plugin, "write_onnx", copied)


@pytest.mark.parametrize(
    ("version", "precision", "opset", "graph"),
    [("8.5.2.2", "fp16", 16, "fp32"), ("10.3.0", "fp16", 18, "fp16")],
)
def test_the_engine_comes_back_with_its_proof(
    version: str,
    precision: str,
    opset: int,
    graph: str,
    release: Callable[..., None],
    trained: Artifact,
    images: Draw,
    tmp_path: Path,
) -> None:
    release(version)
    said: list[str] = []
    options = Export(precision=precision, samples=60, max_drop=0.1, workspace_mb=64)
    order = Order(options, images(100, 32), target=TARGET, say=said.append)
    made = export(trained, tmp_path / "out", "tensorrt", order)
    manifest = made.manifest
    assert manifest["kind"] == "tensorrt"
    assert sorted(manifest["files"]) == ["model.onnx", "model.plan", "model.plan.json"]
    assert made.model_file.name == "model.plan"
    section = manifest["export"]
    assert (section["format"], section["opset"]) == ("tensorrt", opset)
    assert (section["precision_asked"], section["precision"]) == (precision, precision)
    assert section["graph"]["precision"] == graph
    assert section["bytes"] == made.model_file.stat().st_size
    assert section["verdict"]["passed"]
    assert section["verdict"]["n"] == 100
    assert section["verdict"]["snr_db"] > (30 if graph == "fp16" else 100)
    engine = section["engine"]
    assert engine["key"]["tensorrt"] == version
    assert engine["key"]["options"]["batch"] == [1, 1, 8]
    assert engine["key"]["options"]["inputs"] == {"images": [32, 32, 3]}
    assert engine["typed"] == (not version.startswith("8"))
    assert engine["shares"] == {precision: 1.0}
    opsets = onnx.load(made.path / "model.onnx").opset_import
    assert [one.version for one in opsets if one.domain == ""] == [opset]
    side = json.loads((made.path / "model.plan.json").read_text())
    assert side["key"] == engine["key"]
    assert json.loads(side["metadata"]["edgekd.labels"]) == manifest["labels"]
    assert f"TensorRT {version}" in said[0]
    assert said[-1].startswith("building model.")


@pytest.mark.usefixtures("quick")
def test_an_fp32_engine_is_held_to_its_signal(
    release: Callable[..., None],
    trained: Artifact,
    images: Draw,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With 60 images even equal answers allow for a drop of more than a point."""
    release("11.4.0.106")
    device = Local()
    monkeypatch.setattr(plugin, "reach", lambda name: device)
    order = Order(Export(), images(60, 32), target=TARGET)
    verdict = export(trained, tmp_path / "out", "tensorrt", order).manifest["export"]["verdict"]
    assert verdict["passed"]
    assert verdict["snr_db"] > 100
    kept = {file.name for file in device.folder.rglob("*") if file.is_file()}
    assert "model.onnx" in kept
    assert not [name for name in kept if name.endswith((".npy", "job.json"))]
    backbone = from_artifact(trained)
    exact = answers(reference(backbone.model), backbone.preprocess, order.images.pixels)
    noise = np.random.default_rng(0).normal(0, 0.01 * exact.std(), exact.shape)  # 40 dB
    with pytest.raises(AccuracyError, match=r"(39|40|41)\.\d dB above their error; expected 60"):
        export(
            trained,
            tmp_path / "noisy",
            "tensorrt",
            replace(order, answers=(exact + noise).astype(np.float32)),
        )


@pytest.mark.usefixtures("quick")
def test_an_engine_that_answers_otherwise_is_refused_and_kept(
    release: Callable[..., None], trained: Artifact, images: Draw, tmp_path: Path
) -> None:
    release("10.3.0")
    rubbish = np.random.default_rng(0).normal(size=(60, 10)).astype(np.float32)
    order = Order(Export(samples=60), images(60, 32), target=TARGET, answers=rubbish)
    with pytest.raises(AccuracyError, match="as a TensorRT engine in fp32 is refused"):
        export(trained, tmp_path / "out", "tensorrt", order)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["model.plan.rejected"]


@pytest.mark.parametrize("key", ["engine", "logits"])
@pytest.mark.parametrize("name", [None, 7, "", "../../etc/passwd", "/etc/passwd"])
def test_a_device_may_name_files_of_its_own_only(key: str, name: object) -> None:
    with pytest.raises(DeviceError, match=rf"local: its agent named .* as the {key}; expected"):
        plugin._named(Local(), {key: name}, key)


@pytest.mark.usefixtures("quick")
def test_an_engine_in_another_precision_is_refused(
    release: Callable[..., None], trained: Artifact, images: Draw, tmp_path: Path
) -> None:
    release("8.6.1", obedient=False)
    order = Order(Export(precision="fp16", samples=60), images(60, 32), target=TARGET)
    with pytest.raises(DeviceError, match="fp16 was asked for and the engine is fp32: 0%"):
        export(trained, tmp_path / "out", "tensorrt", order)
    assert not (tmp_path / "out").exists()


def with_trtexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Give this machine a trtexec that is none, on the PATH."""
    folder = tmp_path / "bin"
    shutil.copytree(TRTEXEC, folder)
    (folder / "fake.json").write_text(json.dumps({"release": version, "scene": "works"}))
    program = folder / "trtexec"
    program.write_text(f"#!{sys.executable}\n" + (TRTEXEC / "fake.py").read_text("utf-8"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("quick")
def test_trtexec_alone_builds_and_proves_an_engine(
    release: Callable[..., None],
    trained: Artifact,
    images: Draw,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release("8.5.2.2", bindings=False)
    with_trtexec(tmp_path, monkeypatch, "8.5.2")
    said: list[str] = []
    options = Export(precision="fp16", samples=60, max_drop=0.1, batches=(8, 30))
    order = Order(options, images(60, 32), target=TARGET, say=said.append)
    made = export(trained, tmp_path / "out", "tensorrt", order)
    section = made.manifest["export"]
    assert section["precision"] == "fp16"
    assert section["engine"]["maker"] == "trtexec"
    assert section["engine"]["key"]["tensorrt"] == "8.5.2"
    assert section["verdict"]["passed"]
    assert section["verdict"]["snr_db"] > 90  # six digits of each logit
    assert said[-1] == "2 calls of trtexec follow, one for each 30 images"
    assert sorted(made.manifest["files"]) == ["model.onnx", "model.plan", "model.plan.json"]


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has a GPU")
def test_without_a_gpu_nothing_is_written(trained: Artifact, images: Draw, tmp_path: Path) -> None:
    order = Order(Export(), images(60, 32), target=TARGET)
    with pytest.raises(DeviceError, match=r"no NVIDIA driver here.*Name a device that has one"):
        export(trained, tmp_path / "out", "tensorrt", order)
    assert not (tmp_path / "out").exists()


def test_a_profile_is_no_device(trained: Artifact, images: Draw, tmp_path: Path) -> None:
    order = Order(Export(), images(60, 32), target=Target(name="jetson-orin-nowhere"))
    with pytest.raises(UnknownNameError, match="jetson-orin-nowhere"):
        export(trained, tmp_path / "out", "tensorrt", order)


@pytest.mark.parametrize(
    ("version", "opset", "newest", "flavour", "typed"),
    [
        ("8.5.2.2", 16, 17, "tensorrt8", False),
        ("8.6.1", 17, 17, "tensorrt8", False),
        ("10.0.1", 18, 20, "tensorrt", True),
        ("10.3.0", 18, 20, "tensorrt", True),
        ("10.13.3.9", 18, 24, "tensorrt", True),
        ("11.4.0.106", 18, 24, "tensorrt", True),
    ],
)
def test_each_release_gets_a_graph_it_reads(
    version: str, opset: int, newest: int, flavour: str, typed: bool
) -> None:
    found = release_of(version)
    assert found.typed == typed
    target = found.target(Target(name="x", opset=18, flavour="vnni"))
    assert (target.opset, target.opsets, target.flavour) == (opset, (13, newest), flavour)
    assert (target.runtime, target.name) == ("trt", "x")
    assert found.target(Target(opset=15)).opset == 15


@pytest.mark.parametrize("version", ["8.4.1.5", "7.2.3"])
def test_what_is_too_old_is_refused(version: str) -> None:
    with pytest.raises(DeviceError, match=r"too old; expected 8\.5 or newer"):
        release_of(version)
