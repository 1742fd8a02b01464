"""Faults planted in files: each has to be found where it was planted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from torch import Tensor, nn

from edgekd.data import Images
from edgekd.export._explaining.explain import Explanation, explain
from edgekd.export._explaining.steps import counterparts, steps_of
from edgekd.export._exporters import dynamo, torchscript
from edgekd.export._network import Baked, reference
from edgekd.models import Backbone
from edgekd.preprocess import Preprocess

SIDE = 32
Change = Callable[[onnx.ModelProto], None]


class Half(nn.Module):
    """A network in half precision between float32 inputs and outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = reference(network).half()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images.half()).float()
        return logits


class Feed(CalibrationDataReader):  # type: ignore[misc]
    """Pixels for the quantizer."""

    def __init__(self, pixels: Any) -> None:
        self._batches: Iterator[dict[str, Any]] = iter([{"images": pixels}])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


@dataclass(frozen=True)
class World:
    """A network, images and its files without fault."""

    network: nn.Module
    rule: Preprocess
    pixels: Any
    files: Mapping[str, Path]

    def explain(self, file: Path, floating: str | None = "float") -> Explanation:
        right = self.files[floating] if floating else None
        found = explain(self.network, self.rule, self.pixels, file, right)
        json.dumps(found.to_dict(), allow_nan=False)
        return found


def write(module: nn.Module, file: Path, exporter: Any = dynamo) -> Path:
    exporter(module.eval(), torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8), "images", file, 18)
    return file


def quantise(floating: Path, file: Path, pixels: Any) -> Path:
    quantize_static(
        floating,
        file,
        Feed(pixels),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return file


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    backbone: Callable[[str, int], Backbone],
    images: Callable[[int, int], Images],
) -> World:
    made = backbone("resnet8", SIDE)
    network, rule, pixels = reference(made.model), made.preprocess, images(24, SIDE).pixels
    folder = tmp_path_factory.mktemp("files")
    floating = write(Baked(network, rule), folder / "float.onnx")
    files = {
        "float": floating,
        "traced": write(Baked(network, rule), folder / "traced.onnx", torchscript),
        "fp16": write(Baked(Half(network), rule), folder / "fp16.onnx"),
        "int8": quantise(floating, folder / "int8.onnx", pixels),
    }
    return World(network, rule, pixels, files)


def changed(file: Path, folder: Path, change: Change) -> Path:
    model = onnx.load(file)
    change(model)
    onnx.save(model, folder / "changed.onnx")
    return folder / "changed.onnx"


def scaled(name: str, factor: float, share: float = 1.0) -> Change:
    """Multiply an initialiser, or the first part of its rows."""

    def change(model: onnx.ModelProto) -> None:
        (tensor,) = (t for t in model.graph.initializer if t.name == name)
        value = np.array(numpy_helper.to_array(tensor))
        part = value[: round(len(value) * share)] if value.ndim else value
        part *= factor
        tensor.CopyFrom(numpy_helper.from_array(value.astype(value.dtype), name))

    return change


def convolutions(file: Path) -> list[onnx.NodeProto]:
    return [node for node in onnx.load(file).graph.node if node.op_type == "Conv"]


# Without fault


@pytest.mark.parametrize(
    ("name", "stages", "least"),
    [
        ("float", ["preprocess", "export"], 110),
        ("traced", ["preprocess", "export"], 110),
        ("fp16", ["preprocess", "export", "fp16", "runtime"], 50),
        ("int8", ["preprocess", "export", "int8", "runtime"], 25),
    ],
)
def test_a_file_without_fault_has_no_first_error(
    world: World, name: str, stages: list[str], least: float
) -> None:
    found = world.explain(world.files[name])
    assert [stage.name for stage in found.stages] == stages
    assert all(stage.passed for stage in found.stages)
    levels = [stage.snr_db for stage in found.stages]
    assert min(level for level in levels if level is not None) > least
    assert levels[0] is not None
    assert found.first is None
    assert found.sentence.startswith("No large error")
    assert bool(found.worst) == (name in ("fp16", "int8"))
    assert all(spot.added_db < 10 for spot in found.worst)


# Preprocessing


@pytest.mark.parametrize(
    ("mean", "std", "says"),
    [
        ((0.2, 0.25, 0.3), (0.49, 0.41, 0.32), r"mean \(0.2, 0.25, 0.3\) and the std \(0.49, 0"),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "mean and std of ImageNet"),
    ],
)
def test_a_wrong_normalisation_is_found_and_named(
    world: World, tmp_path: Path, mean: Any, std: Any, says: str
) -> None:
    wrong = replace(world.rule, mean=mean, std=std)
    file = write(Baked(world.network, wrong), tmp_path / "a", torchscript)
    found = world.explain(file)
    assert not found.stages[0].passed
    assert found.first is not None
    assert (found.first.stage, found.first.op) == ("preprocess", "Add")
    assert found.first.tensor == "/Add_output_0"
    assert re.search(says, found.sentence), found.sentence


def test_swapped_channels_are_named(world: World, tmp_path: Path) -> None:
    class Swapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.inner(images[..., [2, 1, 0]])
            return logits

    file = write(Swapped(Baked(world.network, world.rule)), tmp_path / "a", torchscript)
    found = world.explain(file)
    assert found.first is not None
    assert found.first.stage == "preprocess"
    assert "red and blue swapped" in found.sentence


def test_int8_does_not_hide_a_wrong_normalisation(world: World, tmp_path: Path) -> None:
    wrong = replace(world.rule, mean=world.rule.std, std=world.rule.mean)
    floating = write(Baked(world.network, wrong), tmp_path / "f", torchscript)
    found = world.explain(quantise(floating, tmp_path / "q", world.pixels))
    assert found.first is not None
    assert found.first.stage == "preprocess"
    assert "it takes the mean" in found.first.reason


# Export


@pytest.mark.parametrize("name", ["float", "traced"])
@pytest.mark.parametrize("index", [0, 3, -1])
def test_a_changed_weight_is_found_at_its_node(
    world: World, tmp_path: Path, name: str, index: int
) -> None:
    node = convolutions(world.files[name])[index]
    found = world.explain(changed(world.files[name], tmp_path, scaled(node.input[1], 1.5, 0.25)))
    assert [stage.passed for stage in found.stages] == [True, False]
    assert found.first is not None
    assert (found.first.stage, found.first.node) == ("export", node.name)
    assert found.first.before_db > 90 > found.first.snr_db
    assert f"Conv {node.name!r} (export)" in found.sentence


def test_hooks_do_not_stay_in_the_network(world: World, tmp_path: Path) -> None:
    node = convolutions(world.files["float"])[0]
    world.explain(changed(world.files["float"], tmp_path, scaled(node.input[1], 2.0)))
    for module in world.network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


# int8


@pytest.mark.parametrize("index", [1, 4, -1])
def test_a_scale_that_is_too_small_is_found_at_its_node(
    world: World, tmp_path: Path, index: int
) -> None:
    node = convolutions(world.files["int8"])[index]
    found = world.explain(
        changed(world.files["int8"], tmp_path, scaled(f"{node.output[0]}_scale", 0.05))
    )
    assert [stage.passed for stage in found.stages[:3]] == [True, True, False]
    assert found.first is not None
    assert (found.first.stage, found.first.node) == ("int8", node.name)
    assert found.first.before_db > found.first.snr_db + 10
    assert "of its output lies outside of what its scale holds" in found.first.reason
    assert found.worst[0].node == node.name


def test_weights_that_were_spoilt_are_named(world: World, tmp_path: Path) -> None:
    node = convolutions(world.files["int8"])[2]
    name = node.input[1].removesuffix("_DequantizeLinear_Output")
    found = world.explain(changed(world.files["int8"], tmp_path, scaled(f"{name}_scale", 3.0)))
    assert found.first is not None
    assert found.first.node == node.name
    assert "its weights keep only" in found.first.reason


def test_one_large_channel_is_named(
    world: World, tmp_path: Path, images: Callable[[int, int], Images]
) -> None:
    """A channel 300 times the others, before it is quantised, takes all the steps."""
    network = reference(world.network)
    norm = network.get_submodule("stem.bn")
    assert isinstance(norm.weight, Tensor)
    assert isinstance(norm.bias, Tensor)
    norm.weight[0] *= 300
    norm.bias[0] = 50
    reader = network.get_submodule("stages.0.0.conv1.conv")
    assert isinstance(reader.weight, Tensor)
    reader.weight[:, 0] = 0
    floating = write(Baked(network, world.rule), tmp_path / "f.onnx", torchscript)
    file = quantise(floating, tmp_path / "q.onnx", world.pixels)
    found = explain(network, world.rule, world.pixels, file, floating)
    reasons = [spot.reason for spot in found.worst]
    assert any("one channel" in reason and "times the others" in reason for reason in reasons), (
        found
    )


# fp16


def test_an_overflow_is_found_at_its_node(world: World, tmp_path: Path) -> None:
    network = reference(world.network)
    loud = network.get_submodule("stages.1.0.conv1.bn")
    quiet = network.get_submodule("stages.1.0.conv2.conv")
    for tensor, factor in ((loud.weight, 1e5), (loud.bias, 1e5), (quiet.weight, 1e-5)):
        assert isinstance(tensor, Tensor)
        tensor *= factor
    files = {
        "float": write(Baked(network, world.rule), tmp_path / "f.onnx", torchscript),
        "fp16": write(Baked(Half(network), world.rule), tmp_path / "h.onnx", torchscript),
    }
    found = replace(world, network=network, files=files).explain(files["fp16"])
    assert [stage.passed for stage in found.stages[:3]] == [True, True, False]
    assert found.first is not None
    assert found.first.stage == "fp16"
    assert "stages.1.0/conv1" in found.first.node
    assert "half precision ends at 65504" in found.first.reason
    assert "nothing right after" in found.sentence


# The rest


def test_a_float_file_is_made_where_none_is_given(world: World) -> None:
    found = world.explain(world.files["int8"], floating=None)
    assert [stage.name for stage in found.stages] == ["preprocess", "export", "int8", "runtime"]
    assert found.worst == world.explain(world.files["int8"]).worst
    assert found.first is None


def test_a_float_input_needs_no_preprocessing(world: World, tmp_path: Path) -> None:
    torchscript(world.network, torch.zeros(2, 3, SIDE, SIDE), "input", tmp_path / "a", 18)
    found = world.explain(tmp_path / "a", floating=None)
    assert found.stages[0].snr_db is None
    assert "takes normalised images" in found.stages[0].note
    assert found.first is None


def test_a_file_that_does_not_open_is_said_and_not_raised(world: World, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    found = world.explain(tmp_path / "model.onnx")
    assert found.stages == ()
    assert found.sentence.startswith("model.onnx cannot be explained: ")


def test_values_are_paired_across_other_names(world: World, tmp_path: Path) -> None:
    """The half network written by the other exporter: other names, the same operators."""
    half = write(Baked(Half(world.network), world.rule), tmp_path / "h.onnx", torchscript)
    ours, theirs = (onnx.load(file) for file in (half, world.files["traced"]))
    pairs = counterparts(steps_of(ours), steps_of(theirs), quantised=False)
    assert len(pairs) == len(steps_of(theirs))
    found = world.explain(half)  # beside dynamo's file, whose pooling is written otherwise
    assert [spot.op for spot in found.worst][:1] == ["Conv"]
    assert found.stages[2].passed


@pytest.mark.parametrize("name", ["int8", "fp16"])
def test_each_convolution_has_its_counterpart(world: World, name: str) -> None:
    """The quantizer sorts the nodes anew, and lets a convolution write what the ReLU did."""
    reduced, floating = (onnx.load(world.files[n]) for n in (name, "float"))
    pairs = counterparts(steps_of(reduced), steps_of(floating), quantised=name == "int8")
    makers = {node.output[0]: node for node in floating.graph.node}
    convs = convolutions(world.files[name])
    others = [makers[pairs[node.output[0]]] for node in convs]
    assert ["Relu" in (other.op_type for other in others)] == [name == "int8"]
    others = [makers[o.input[0]] if o.op_type == "Relu" else o for o in others]
    assert [other.name for other in others] == [node.name for node in convs]
    assert len(convs) == 9
