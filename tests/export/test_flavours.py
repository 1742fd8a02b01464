"""Flavours: what each of them promises is in the file, and a file of another one is found out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from edgekd.data import Images
from edgekd.errors import UnknownNameError
from edgekd.export._parity import snr_db
from edgekd.export._quantising.calibrators import observe, ranges_of
from edgekd.export._quantising.flavours import FLAVOURS, broken_promises, flavour_named
from edgekd.export._quantising.quantise import quantise, read_float_graph
from edgekd.export._running import run_file
from edgekd.preprocess import Preprocess
from edgekd.targets import FLAVOURS as KNOWN


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory,
    float_resnet: Path,
    images: Callable[[int, int], Images],
    preprocess: Callable[[int], Preprocess],
) -> dict[str, Path]:
    """The same network in every flavour."""
    folder, made = tmp_path_factory.mktemp("flavours"), {}
    for name, flavour in FLAVOURS.items():
        graph = read_float_graph(float_resnet, flavour)
        spreads = observe(graph, images(16, 32).pixels, preprocess(32), folder)
        made[name] = folder / f"{name}.onnx"
        quantise(graph, made[name], ranges_of(spreads, "minmax", flavour.symmetric))
    return made


def quantisers(model: ModelProto, operator: str) -> list[np.ndarray]:
    """Zero points of the nodes of one kind."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return [constants[n.input[2]] for n in model.graph.node if n.op_type == operator]


def test_every_flavour_of_the_targets_is_there() -> None:
    assert set(FLAVOURS) == set(KNOWN)
    with pytest.raises(UnknownNameError, match="tensorrt"):
        flavour_named("tensort")


@pytest.mark.parametrize("name", FLAVOURS)
def test_the_file_is_what_the_flavour_promises(name: str, files: dict[str, Path]) -> None:
    assert broken_promises(onnx.load(files[name]), FLAVOURS[name]) == []


@pytest.mark.parametrize("name", FLAVOURS)
def test_the_file_is_still_the_network(
    name: str,
    files: dict[str, Path],
    float_resnet: Path,
    images: Callable[[int, int], Images],
    preprocess: Callable[[int], Preprocess],
) -> None:
    pixels = images(40, 32).pixels
    expected, found = (run_file(f, preprocess(32), pixels) for f in (float_resnet, files[name]))
    assert snr_db(expected, found) > 15


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt8"])
def test_tensorrt_takes_int8_around_zero_and_float_biases(
    name: str, files: dict[str, Path]
) -> None:
    model = onnx.load(files[name])
    points = quantisers(model, "QuantizeLinear") + quantisers(model, "DequantizeLinear")
    assert len(points) > 20
    assert {point.dtype for point in points} == {np.dtype(np.int8)}
    assert not any(point.any() for point in points)
    biases = [n.input[2] for n in model.graph.node if n.op_type == "Conv" and len(n.input) > 2]
    floats = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    assert biases
    assert set(biases) <= floats
    # nothing stands between a convolution and what TensorRT fuses into it
    readers = {i: node.op_type for node in model.graph.node for i in node.input}
    assert {readers[n.output[0]] for n in model.graph.node if n.op_type == "Conv"} <= {
        "Relu",
        "Add",
        "QuantizeLinear",  # of an Add, whose inputs both are int8
    }


def test_tensorrt_8_keeps_weights_in_float_behind_a_quantiser(files: dict[str, Path]) -> None:
    pairs, plain = (onnx.load(files[name]) for name in ("tensorrt8", "tensorrt"))
    convolutions = sum(n.op_type == "Conv" for n in plain.graph.node)
    extra = len(quantisers(pairs, "QuantizeLinear")) - len(quantisers(plain, "QuantizeLinear"))
    assert extra == convolutions + 1  # and the classifier
    assert files["tensorrt8"].stat().st_size > 2.5 * files["tensorrt"].stat().st_size


def test_activations_are_unsigned_on_x86_and_signed_on_arm(files: dict[str, Path]) -> None:
    for name, dtype in (("vnni", np.uint8), ("avx2", np.uint8), ("arm64", np.int8)):
        points = quantisers(onnx.load(files[name]), "QuantizeLinear")
        assert {point.dtype for point in points} == {np.dtype(dtype)}
        assert any(point.any() for point in points)  # the first input has negative values


def test_without_vnni_weights_take_seven_bits(files: dict[str, Path]) -> None:
    for name, most in (("avx2", 64), ("vnni", 127)):
        weights = [
            numpy_helper.to_array(t)
            for t in onnx.load(files[name]).graph.initializer
            if len(t.dims) == 4 and t.data_type == onnx.TensorProto.INT8
        ]
        assert len(weights) > 5
        assert max(np.abs(w.astype(int)).max() for w in weights) == most


@pytest.mark.parametrize(
    ("written", "expected", "complaint"),
    [
        ("vnni", "tensorrt", "is quantised"),
        ("vnni", "arm64", "is uint8, expected int8"),
        ("arm64", "tensorrt", "expected 0"),
        ("vnni", "avx2", "takes 8 bits, expected 7"),
        ("tensorrt", "tensorrt8", "has no quantiser"),
        ("tensorrt8", "tensorrt", "quantised anew"),
    ],
)
def test_a_file_of_another_flavour_is_found_out(
    written: str, expected: str, complaint: str, files: dict[str, Path]
) -> None:
    found = broken_promises(onnx.load(files[written]), FLAVOURS[expected])
    assert any(complaint in clause for clause in found), found


def test_one_scale_for_all_channels_is_found_out(files: dict[str, Path]) -> None:
    model = onnx.load(files["vnni"])
    node = next(n for n in model.graph.node if n.op_type == "Conv")
    maker = next(n for n in model.graph.node if node.input[1] in n.output)
    for axis in maker.attribute:
        axis.i = 1
    assert any("on axis 1, expected" in c for c in broken_promises(model, FLAVOURS["vnni"]))


def test_a_graph_in_float_is_found_out(float_resnet: Path) -> None:
    plain = onnx.load(float_resnet)
    for flavour in (FLAVOURS["vnni"], replace(FLAVOURS["vnni"], signed=True)):
        assert broken_promises(plain, flavour) == ["no convolution or matrix product is quantised"]
