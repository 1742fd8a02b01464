"""The ONNX format: what the file is, what it says of itself, and what happens when it is wrong."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from timm.models.byobnet import MobileOneBlock
from torch import nn

import edgekd.export
import edgekd.export.onnx as plugin
from edgekd.artifact import Artifact
from edgekd.data import Images
from edgekd.errors import UnknownNameError, UsageError
from edgekd.export import Order, export, export_backbone
from edgekd.models import Backbone
from edgekd.recipe import Export

Make = Callable[[str | nn.Module, int], Backbone]
Draw = Callable[[int, int], Images]


def logits_of(file: Path, feed: Any) -> Any:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: feed})[0]


@pytest.fixture(scope="module")
def exported(trained: Artifact, images: Draw, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    out = tmp_path_factory.mktemp("exported") / "deep" / "resnet8-onnx"
    return export(trained, out, "onnx", Order(Export(), images(100, 32)))


# The artifact


def test_artifact_opens_and_names_its_parent(exported: Artifact, trained: Artifact) -> None:
    manifest = Artifact.open(exported.path).manifest
    assert (manifest["kind"], list(manifest["files"])) == ("onnx", ["model.onnx"])
    above = trained.manifest.get("parent")
    assert manifest["parent"] == {"sha256": trained.sha256, "name": "resnet8", "parent": above}
    for section in ("role", "labels", "model", "metrics", "recipe", "training"):
        assert manifest[section] == trained.manifest[section]
    assert manifest["input"] == {
        **trained.manifest["input"],
        "dtype": "uint8",
        "layout": "NHWC",
    }
    assert [p.name for p in exported.path.parent.iterdir()] == ["resnet8-onnx"]


def test_export_section_says_what_the_file_is(exported: Artifact) -> None:
    section = exported.manifest["export"]
    assert (section["exporter"], section["fallbacks"]) == ("dynamo", [])
    assert set(section["exporter_versions"]) == {"torch", "onnx", "onnxscript", "onnxruntime"}
    assert (section["opset"], section["ir_version"], section["batch"]) == (18, 8, "dynamic")
    assert (section["precision"], section["weighted"]) == ("fp32", {"fp32": 10})
    assert section["bytes"] == exported.model_file.stat().st_size
    assert section["parity"]["passed"]
    assert section["parity"]["images"] == 100
    assert section["parity"]["snr_db"] > 110
    assert section["parameters"] == {"before": 78042, "after": 78042}


def test_graph_is_nothing_but_the_network(exported: Artifact) -> None:
    """A channels-last tensor once made the average pool a Range, a Gather and a Shape."""
    section = exported.manifest["export"]
    assert section["batch_norms"] == {"left": 0, "foldable": 0}
    assert section["nodes"] == {
        "Conv": 9,
        "Relu": 7,
        "Add": 4,
        "Cast": 1,
        "Transpose": 1,
        "Mul": 1,
        "ReduceMean": 1,
        "Reshape": 1,
        "Gemm": 1,
    }


def test_entry_takes_pixels_of_any_batch(exported: Artifact) -> None:
    graph = onnx.load(exported.model_file).graph
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert shapes == {"images": ["batch", 32, 32, 3], "logits": ["batch", 10]}
    assert graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8


def test_file_says_what_it_is(exported: Artifact, trained: Artifact) -> None:
    model = onnx.load(exported.model_file)
    said = {entry.key.removeprefix("edgekd."): entry.value for entry in model.metadata_props}
    table = trained.manifest["input"]
    assert json.loads(said["labels"]) == trained.manifest["labels"]
    assert json.loads(said["mean"]) == table["mean"]
    assert json.loads(said["std"]) == table["std"]
    assert json.loads(said["size"]) == table["size"]
    assert json.loads(said["crop_pct"]) == table["crop_pct"]
    assert (said["interpolation"], said["layout"], said["dtype"]) == ("bilinear", "NHWC", "uint8")
    assert said["weights"] == trained.manifest["files"]["model.safetensors"]["sha256"]
    assert said["exporter"].startswith("dynamo, torch ")
    assert "version" in said
    assert "images (batch, 32, 32, 3) uint8 RGB" in model.doc_string


def test_file_holds_no_path_of_this_machine(exported: Artifact) -> None:
    content = exported.model_file.read_bytes()
    assert b".py" not in content
    assert str(Path.home()).encode() not in content or Path.home() == Path("/")


# Its options


def test_float_input_answers_as_the_baked_file_does(
    exported: Artifact, trained: Artifact, images: Draw, tmp_path: Path
) -> None:
    pictures = images(40, 32)
    options = Export(opset=17, float_input=True)
    other = export(trained, tmp_path / "float", "onnx", Order(options, pictures))
    table = other.manifest["input"]
    assert (table["dtype"], table["layout"]) == ("float32", "NCHW")
    assert "normalised by edgekd.mean" in onnx.load(other.model_file).doc_string
    normalised = (pictures.pixels / 255 - table["mean"]) / table["std"]
    feed = normalised.transpose(0, 3, 1, 2).astype(np.float32)
    baked = logits_of(exported.model_file, pictures.pixels)
    assert np.abs(logits_of(other.model_file, feed) - baked).max() < 1e-5 * np.abs(baked).max()
    assert "Cast" not in other.manifest["export"]["nodes"]


def test_opset_17_has_axes_where_old_parsers_look(
    trained: Artifact, images: Draw, tmp_path: Path
) -> None:
    lowered = export(trained, tmp_path / "o", "onnx", Order(Export(opset=17), images(60, 32)))
    section = lowered.manifest["export"]
    assert (section["opset"], section["ir_version"], section["exporter"]) == (17, 8, "dynamo")
    (reduction,) = (n for n in onnx.load(lowered.model_file).graph.node if "Reduce" in n.op_type)
    axes = {attribute.name: list(attribute.ints) for attribute in reduction.attribute}["axes"]
    assert len(reduction.input) == 1
    assert axes in ([-1, -2], [2, 3])


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050"])
def test_timm_networks_lose_their_batch_norms(
    name: str, backbone: Make, trained: Artifact, images: Draw, tmp_path: Path
) -> None:
    network = backbone(name, 64)
    made = export_backbone(
        network, trained, tmp_path / name, "onnx", Order(Export(samples=60), images(60, 64))
    )
    section = made.manifest["export"]
    assert section["parity"]["passed"]
    assert section["batch_norms"] == {"left": 0, "foldable": 0}


def test_branches_are_merged_and_the_network_is_left_alone(
    backbone: Make, trained: Artifact, images: Draw, tmp_path: Path
) -> None:
    blocks = [MobileOneBlock(3, 8, stride=2), MobileOneBlock(8, 8), MobileOneBlock(8, 8)]
    network = backbone(
        nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)), 16
    )
    network.model.train()
    before = network.parameters
    made = export_backbone(
        network, trained, tmp_path / "m", "onnx", Order(Export(), images(60, 16))
    )
    section = made.manifest["export"]
    assert section["nodes"]["Conv"] == 3
    assert section["batch_norms"]["left"] == 0
    assert section["parameters"]["before"] == before > section["parameters"]["after"]
    assert network.model.training
    assert network.parameters == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["repvgg_a0", "mobileone_s0", "fastvit_t8"])
def test_merging_shrinks_the_graph(
    name: str,
    backbone: Make,
    trained: Artifact,
    images: Draw,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, pictures = backbone(name, 64), images(60, 64)
    merged = export_backbone(network, trained, tmp_path / "a", "onnx", Order(Export(), pictures))
    monkeypatch.setattr(plugin, "reparameterised", lambda model: model)
    plain = export_backbone(network, trained, tmp_path / "b", "onnx", Order(Export(), pictures))
    few, many = (sum(a.manifest["export"]["nodes"].values()) for a in (merged, plain))
    assert few < 0.7 * many
    assert plain.manifest["export"]["batch_norms"]["left"] > 0
    assert merged.manifest["export"]["batch_norms"] == {"left": 0, "foldable": 0}


# The shelf


def test_unknown_format_is_refused(trained: Artifact, images: Draw, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no format 'onx'"):
        export(trained, tmp_path / "o", "onx", Order(Export(), images(1, 32)))


def test_exported_file_is_not_exported_again(
    exported: Artifact, images: Draw, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="expected a network"):
        export(exported, tmp_path / "o", "onnx", Order(Export(), images(1, 32)))


@pytest.mark.parametrize("file", sorted(Path(edgekd.export.__file__).parent.rglob("*.py")))
def test_shelf_is_imported_without_onnx(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for absent in ("onnx", "onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, absent, None)
    spec = importlib.util.spec_from_file_location(f"without_onnx_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
