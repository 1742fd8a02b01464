"""Sketches: files of networks that nobody trained, which are as those of trained ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgekd.errors import UnknownNameError, UsageError
from edgekd.export._exporters import dynamo
from edgekd.export._graph import facts
from edgekd.export._running import open_session
from edgekd.export._writing import write
from edgekd.export.sketch import quantised, sketch
from edgekd.export.sketch.drawing import _network, look
from edgekd.export.sketch.plain import OPERATORS, quickest
from edgekd.models import build
from edgekd.recipe import Network
from edgekd.targets import Target

SMALL = [("resnet8", 16), ("wrn_16_1", 16), ("mobilenetv2_cifar", 16), ("mobileone_s0", 32)]


def outputs(file: Path, count: int = 6) -> np.ndarray:
    """Answers of a file to images of noise."""
    session = open_session(file)
    size = session.get_inputs()[0].shape[1]
    noise = np.random.default_rng(1).integers(0, 256, (count, size, size, 3), np.uint8)
    found: np.ndarray = session.run(None, {"images": noise})[0]
    return found


@pytest.mark.parametrize(("name", "size"), SMALL)
def test_a_sketch_runs_and_answers_each_image_in_its_own_way(
    name: str, size: int, tmp_path: Path
) -> None:
    made = sketch(name, size, 7, tmp_path / "made", Target())
    assert [file.name for file in made.file.parent.iterdir()] == ["model.onnx"]
    found = outputs(made.file)
    assert found.shape == (6, 7)
    assert np.isfinite(found).all()
    assert (found.std(axis=0) > 1e-4).all()
    backbone = build(Network(name), [str(i) for i in range(7)], size)
    assert made.parameters == backbone.parameters


def test_the_same_sketch_has_the_same_bytes_and_disturbs_no_random_numbers(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    first, second = (sketch("resnet8", 16, 3, tmp_path / name, Target()).file for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet8", 16), pytest.param("mobilenetv3_small_050", 32, marks=pytest.mark.slow)],
)
def test_the_graph_is_that_of_the_real_export(name: str, size: int, tmp_path: Path) -> None:
    """Of the network as the real export writes it: other weights, the newer exporter."""
    drawn = _network(name, size, 7, Target())
    (tmp_path / "real").mkdir()
    real = write(drawn.draft, tmp_path / "real", drawn.pixels).file
    quick = sketch(name, size, 7, tmp_path / "quick", Target()).file
    assert operators(quick) == operators(real)
    assert facts(quick)["types"] == facts(real)["types"]
    assert np.allclose(outputs(quick), outputs(real), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "vgg8",
        "wrn_16_1",
        "shufflenetv1_cifar",
        "shufflenetv2_cifar",
        "mobilenetv4_conv_small",
        "repvgg_a0",
        "tinynet_e",
    ],
)
def test_a_plain_graph_has_the_nodes_that_the_newer_exporter_writes(
    name: str, tmp_path: Path
) -> None:
    drawn = _network(name, 64, 7, Target())
    (tmp_path / "real").mkdir()
    real = write(drawn.draft, tmp_path / "real", drawn.pixels, look, {"dynamo": dynamo}).file
    quick = sketch(name, 64, 7, tmp_path / "quick", Target()).file
    assert operators(quick) == operators(real)
    assert set(operators(quick)) <= OPERATORS


class Thirds(torch.nn.Module):
    """Of seven, two and five: no halves."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :2] + x[:, 5:]


class Counting(torch.nn.Module):
    """Has the number of images in a shape."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], x.shape[1])


@pytest.mark.parametrize(
    ("name", "splits"), [("shufflenetv1_cifar", 0), ("shufflenetv2_cifar", 13)]
)
def test_shapes_and_halves_are_written_down(
    name: str, splits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("edgekd.export.sketch.plain.dynamo")  # which is not asked
    nodes = operators(sketch(name, 16, 7, tmp_path, Target()).file)
    assert nodes["Shape"] == nodes["Slice"] == 0
    assert nodes["Split"] == splits
    assert nodes["Transpose"] > 15


def test_what_is_not_plain_is_left_to_the_newer_exporter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("edgekd.export.sketch.plain.dynamo", lambda *given: asked.append(given))
    plain = _network("resnet8", 16, 7, Target()).draft.graph
    image = torch.zeros(2, 3, 16, 16)
    for other in (torch.nn.Softmax(1), Thirds(), Counting()):
        with torch.no_grad():
            quickest(torch.nn.Sequential(plain, other), image, "input", tmp_path / "a.onnx", 18)
    assert len(asked) == 3
    asked[1:] = []
    quickest(plain, image, "input", tmp_path / "a.onnx", 18)
    assert len(asked) == 1
    quickest(plain, image, "input", tmp_path / "a.onnx", 13)  # there the two differ more
    assert len(asked) == 2


@pytest.mark.parametrize("flavour", ["vnni", "arm64"])
def test_int8_is_written_in_the_targets_flavour(flavour: str, tmp_path: Path) -> None:
    made = sketch("resnet8", 16, 7, tmp_path, Target(flavour=flavour), "int8")
    model = onnx.load(made.file)
    kinds = {t.data_type for t in model.graph.initializer if t.name.endswith("_zero_point")}
    assert (onnx.TensorProto.UINT8 in kinds) == (flavour == "vnni")
    assert facts(made.file)["precision"] == "int8"
    plain = sketch("resnet8", 16, 7, tmp_path / "plain", Target()).file
    again = quantised(plain, 16, tmp_path / "again", Target(flavour=flavour))
    assert again.read_bytes() == made.file.read_bytes()
    assert (outputs(made.file).std(axis=0) > 1e-4).all()


@pytest.mark.slow
def test_fp16_is_half_inside(tmp_path: Path) -> None:
    made = sketch("resnet8", 16, 7, tmp_path, Target(), "fp16")
    assert facts(made.file)["precision"] == "fp16"
    assert (outputs(made.file).std(axis=0) > 1e-4).all()


def test_nothing_is_left_where_a_sketch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="resnet20"):
        sketch("resnet21", 16, 7, tmp_path, Target())
    with pytest.raises(UsageError, match="fp32, fp16, int8"):
        sketch("resnet8", 16, 7, tmp_path, Target(), "int4")
    with pytest.raises(UsageError, match="cannot take images of 16x16"):
        sketch("torchvision/alexnet", 16, 7, tmp_path, Target())
    assert not list(tmp_path.iterdir())


def test_a_file_that_answers_the_same_to_all_is_refused(tmp_path: Path) -> None:
    drawn = _network("resnet8", 16, 7, Target())
    head = drawn.draft.graph.get_submodule("head.fc")
    torch.nn.init.zeros_(head.get_parameter("weight"))
    quickest(drawn.draft.graph, torch.zeros(2, 3, 16, 16), "input", tmp_path / "a.onnx", 18)
    found = look(
        tmp_path / "a.onnx", drawn.draft.graph, drawn.backbone.preprocess, drawn.pixels, 40.0
    )
    assert found.reasons == ("it answers the same to every image, or not at all",)


def operators(file: Path) -> Counter[str]:
    """How many nodes of each kind a file has."""
    return Counter(node.op_type for node in onnx.load(file).graph.node)
