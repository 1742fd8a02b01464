"""Choosing: odd operators are left out, shared weights are one layer, clips are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgekd.data import Images
from edgekd.export._graph import facts
from edgekd.export._parity import snr_db
from edgekd.export._quantising.calibrators import observe, ranges_of
from edgekd.export._quantising.choosing import layers_of
from edgekd.export._quantising.flavours import FLAVOURS, broken_promises
from edgekd.export._quantising.float_layers import taken_along
from edgekd.export._quantising.quantise import FloatGraph, quantise, read_float_graph
from edgekd.export._running import run_file
from edgekd.preprocess import Preprocess

RULE = Preprocess((16, 16), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Net(nn.Module):
    """A stem, something in the middle, and a head."""

    def __init__(self, middle: nn.Module, channels: int = 8) -> None:
        super().__init__()
        self.stem, self.middle = nn.Conv2d(3, 8, 3, 2, 1), middle
        self.head = nn.Linear(channels, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.middle(torch.relu(self.stem(images))).mean((2, 3)))
        return logits


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(8, 8, 3, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.shared(torch.relu(self.shared(features))))


class Clamped(nn.Module):
    def __init__(self, low: float, high: float, first: bool = False) -> None:
        super().__init__()
        self.conv, self.low, self.high, self.first = nn.Conv2d(8, 8, 3), low, high, first
        self.conv.weight.data *= 5

    def forward(self, features: Tensor) -> Tensor:
        values = self.conv(features)
        return (torch.relu(values) if self.first else values).clamp(self.low, self.high)


Make = Callable[..., tuple[FloatGraph, Path, float]]


@pytest.fixture
def make(
    as_onnx: Callable[[nn.Module, Preprocess, Path], Path],
    images: Callable[[int, int], Images],
    tmp_path: Path,
) -> Make:
    """Its float graph, its int8 file, and the dB of that."""

    def apply(network: nn.Module, flavour: str, *floats: str) -> tuple[FloatGraph, Path, float]:
        source, file = as_onnx(network.eval(), RULE, tmp_path / "f.onnx"), tmp_path / "q.onnx"
        graph = read_float_graph(source, FLAVOURS[flavour])
        pixels = images(16, 16).pixels
        spreads = observe(graph, pixels, RULE, tmp_path)
        quantise(graph, file, ranges_of(spreads, "minmax", graph.flavour.symmetric), floats)
        right, found = (run_file(f, RULE, pixels) for f in (source, file))
        return graph, file, snr_db(right, found)

    return apply


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_transposed_convolutions_in_groups_stay_in_float(flavour: str, make: Make) -> None:
    """ONNX Runtime's quantiser broadcasts 3 scales with 12 biases, and fails."""
    network = Net(nn.ConvTranspose2d(8, 12, 2, 2, groups=4), 12)
    _, file, db = make(network, flavour)
    types = facts(file)["types"]
    assert (types["Conv"], types["ConvTranspose"]) == ({"int8": 1}, {"fp32": 1})
    assert db > 35


@pytest.mark.parametrize("floats", [[], ["middle.shared"], ["stem", "middle.shared", "head"]])
def test_a_weight_used_twice_is_one_layer_and_what_is_said_is_what_runs(
    floats: list[str], make: Make, tmp_path: Path
) -> None:
    network = Net(nn.Sequential(Twice(), nn.Conv2d(8, 8, 1)))
    names = {name: name.replace("shared", "0.shared") for name in floats}
    graph, file, _ = make(network, "vnni", *names.values())
    assert len(graph.layers) == 4
    shared = graph.layers["middle.0.shared"]
    operators = Counter(n.op_type for n in graph.model.graph.node if n.name in shared)
    assert operators == {"Conv": 2, "Relu": 2}
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "run.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    run = Counter(node.op_type for node in onnx.load(tmp_path / "run.onnx").graph.node)
    said = Counter(facts(file)["types"]["Conv"])
    left = sum("middle" in name for name in floats) * 2 + ("stem" in floats)
    assert said["int8"] == run["QLinearConv"] == 4 - left
    assert said["fp32"] == run["Conv"] + run["FusedConv"] == left


def test_half_of_a_shared_weight_in_float_is_found_out(make: Make) -> None:
    _, file, _ = make(Net(Twice()), "vnni")
    model = onnx.load(file)
    second = [node.name for node in model.graph.node if node.op_type == "Conv"][2]
    (clause,) = taken_along(model, {second})
    assert clause.startswith(f"{second} is to stay in float, and its weight")
    _, file, _ = make(Net(Twice()), "vnni", "middle.shared")
    assert not taken_along(onnx.load(file), {second})


@pytest.mark.parametrize("flavour", ["vnni", "arm64"])
@pytest.mark.parametrize(("low", "high"), [(0.1, 2.0), (-2.0, -0.5)])
def test_a_clip_away_from_zero_is_kept(low: float, high: float, flavour: str, make: Make) -> None:
    graph, file, db = make(Net(Clamped(low, high)), flavour)
    model = onnx.load(file)
    assert [n.op_type for n in model.graph.node].count("Clip") == 1
    assert db > 38
    (clip,) = (n for n in model.graph.node if n.op_type == "Clip")
    assert not broken_promises(model, graph.flavour, graph.model)
    clip.name = "another"
    (clause,) = broken_promises(model, graph.flavour, graph.model)
    assert f"which keeps values within {low:g} and {high:g}, is gone" in clause


def test_a_clip_around_zero_is_left_to_the_integers(make: Make) -> None:
    _, file, db = make(Net(Clamped(-0.5, 0.5, first=True)), "vnni")
    operators = {node.op_type for node in onnx.load(file).graph.node}
    assert not operators & {"Clip", "Relu"}
    assert db > 38


def test_what_comes_before_two_clips_has_the_range_of_the_last(make: Make) -> None:
    """A convolution reaches 5 and more, and 0.5 is all that counts."""
    graph, _, _ = make(Net(Clamped(0.0, 0.5, first=True)), "vnni")
    (clip,) = (n for n in graph.model.graph.node if n.op_type == "Clip")
    (relu,) = (n for n in graph.model.graph.node if clip.input[0] in n.output)
    assert graph.clipped[relu.input[0]] == graph.clipped[clip.input[0]] == clip.output[0]


def test_equal_weights_that_are_not_constants_are_no_layer_of_one() -> None:
    """The product of two activations has no weight."""
    make_node = onnx.helper.make_node
    nodes = [make_node("MatMul", ["x", "x"], [name], name) for name in "ab"]
    ends = [onnx.helper.make_tensor_value_info(n, 1, (4, 4)) for n in "xab"]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])
    assert layers_of(graph, list(graph.node)) == {"a": ("a",), "b": ("b",)}
