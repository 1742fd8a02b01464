"""A layer that is left in float is computed in float, whatever ONNX Runtime's optimiser likes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import cast

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edgekd.data import Images
from edgekd.export._parity import snr_db
from edgekd.export._quantising import quantise as quantising
from edgekd.export._quantising.calibrators import observe, ranges_of
from edgekd.export._quantising.flavours import FLAVOURS
from edgekd.export._quantising.quantise import quantise, read_float_graph
from edgekd.export._running import run_file
from edgekd.preprocess import Preprocess

PLAIN = Preprocess((8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def spoilt(
    digit_net: nn.Sequential,
    as_onnx: Callable[[nn.Module, Preprocess, Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The digit net with one huge weight per filter in 6, on a channel that is always 0."""
    net = copy.deepcopy(digit_net)
    made, read = cast("nn.Conv2d", net[4]), cast("nn.Conv2d", net[6])
    assert made.bias is not None
    with torch.no_grad():
        made.weight[3], made.bias[3], read.weight[:, 3] = 0.0, -1.0, 3000.0
    return as_onnx(net, PLAIN, tmp_path_factory.mktemp("spoilt") / "float.onnx")


Mix = Callable[[str, list[str]], Path]


@pytest.fixture
def mix(spoilt: Path, digits: Callable[[int, int], Images], tmp_path: Path) -> Mix:
    def make(flavour: str, floats: list[str]) -> Path:
        graph = read_float_graph(spoilt, FLAVOURS[flavour])
        spreads = observe(graph, digits(0, 64).pixels, PLAIN, tmp_path)
        ranges = ranges_of(spreads, "minmax", graph.flavour.symmetric)
        quantise(graph, tmp_path / "mixed.onnx", ranges, floats)
        return tmp_path / "mixed.onnx"

    return make


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_layer_in_float_is_computed_in_float(
    flavour: str, mix: Mix, spoilt: Path, digits: Callable[[int, int], Images]
) -> None:
    pixels = digits(1000, 1100).pixels
    expected = run_file(spoilt, PLAIN, pixels)
    assert snr_db(expected, run_file(mix(flavour, []), PLAIN, pixels)) < 5
    assert snr_db(expected, run_file(mix(flavour, ["6"]), PLAIN, pixels)) > 15


def test_without_the_scale_per_channel_the_optimiser_takes_it(
    mix: Mix,
    spoilt: Path,
    digits: Callable[[int, int], Images],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once this fails, ONNX Runtime has changed and the scale per channel is not needed."""
    monkeypatch.setattr(quantising, "keep_in_float", lambda model, names: None)
    file, pixels = mix("vnni", ["6"]), digits(1000, 1100).pixels
    expected = run_file(spoilt, PLAIN, pixels)
    assert snr_db(expected, run_file(file, PLAIN, pixels)) < 5
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    assert snr_db(expected, plain.run(None, {"images": pixels})[0]) > 15


def test_several_layers_share_what_they_read_and_nothing_is_left_over(mix: Mix) -> None:
    model = onnx.load(mix("vnni", ["4", "6", "16"]))
    onnx.checker.check_model(model, full_check=True)
    read = {name for node in model.graph.node for name in node.input}
    outputs = {entry.name for entry in model.graph.output}
    assert all(set(node.output) & (read | outputs) for node in model.graph.node)
    by_channel = [n for n in model.graph.node if n.name.endswith("_by_channel")]
    assert [n.op_type for n in by_channel] == ["DequantizeLinear"] * len(by_channel)
    shapes = {t.name: list(t.dims) for t in model.graph.initializer}
    assert {tuple(shapes[name]) for n in by_channel for name in n.input[1:]} == {(16,)}
