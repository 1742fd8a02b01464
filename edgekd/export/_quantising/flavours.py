"""Flavours: how int8 is written for a runtime, and a look at the file whether it came out so.

Timed on a Zen 4 core with AVX512-VNNI, 160 pixels, batch 1, one thread, ONNX Runtime 1.31:

- Unsigned activations beside signed weights are 1.3 to 2.8 times as fast as both signed.
- The normalisation in front of the network is left alone. In int8 it costs time (mobilenetv3_small
  2.66 instead of 1.92 ms, resnet18 6.58 instead of 5.84 ms) and gains no accuracy.
- Sums of two branches are taken along (resnet18 5.85 instead of 6.06 ms), and so are products with
  a sigmoid, in SiLU and squeeze-and-excite (tf_efficientnetv2_b0 6.03 instead of 6.86 ms), and
  Concat (a ShuffleNet 14.6 instead of 17.4 ms).
- Softmax, the norms and other products are left alone. There int8 gains nothing (deit_tiny 9.7 ms
  without and 10.3 ms with all its products), and each rounding loses a bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from edgekd.errors import UnknownNameError
from edgekd.export._clips import bounds_by_node

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["FLAVOURS", "WEIGHTED", "Flavour", "broken_promises", "flavour_named"]

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "Concat")


@dataclass(frozen=True)
class Flavour:
    """What quantisers and runtimes have to agree on. Weights are int8, one scale per channel."""

    operators: tuple[str, ...] = (*WEIGHTED, "Add", "Mul", "Relu", "Clip", *POOLS)
    """Operators that are quantised."""
    signed: bool = False
    """Activations are int8 instead of uint8."""
    symmetric: bool = False
    """All zero points are 0."""
    reduced: bool = False
    """Weights take 7 bits: without VNNI, x86 adds two products in 16 bits, which overflow."""
    biased: bool = True
    """Biases are int32 instead of float32."""
    outputs: bool = True
    """What an operator returns is quantised as well; a runtime that fuses by itself needs not."""
    pairs: bool = False
    """Weights stay float32 and pass a quantiser of their own."""

    @property
    def options(self) -> dict[str, object]:
        """``extra_options`` of ONNX Runtime's quantiser."""
        return {
            "ActivationSymmetric": self.symmetric,
            "WeightSymmetric": True,
            "QuantizeBias": self.biased,
            "AddQDQPairToWeight": self.pairs,
            "DedicatedQDQPair": not self.outputs,  # TensorRT fuses a pair into one reader
            "OpTypesToExcludeOutputQuantization": [] if self.outputs else list(self.operators),
        }


# TensorRT's parser takes zero points of 0 and int8 only, and no int32 bias. It fuses what follows a
# convolution into it, which a quantised output would prevent.
TENSORRT = Flavour((*WEIGHTED, "Add"), True, True, biased=False, outputs=False)
FLAVOURS: Mapping[str, Flavour] = MappingProxyType(
    {
        "vnni": Flavour(),
        "avx2": Flavour(reduced=True),
        "arm64": Flavour(signed=True),
        "tensorrt": TENSORRT,
        "tensorrt8": Flavour(
            TENSORRT.operators, True, True, biased=False, outputs=False, pairs=True
        ),
    }
)


def flavour_named(name: str) -> Flavour:
    """The flavour of a target.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in FLAVOURS:
        raise UnknownNameError("int8 flavour", name, FLAVOURS)
    return FLAVOURS[name]


def broken_promises(
    model: ModelProto, flavour: Flavour, source: ModelProto | None = None
) -> list[str]:
    """Read a quantised graph and list what is not as the flavour has it, a clause each.

    Args:
        model: the graph.
        flavour: what it should be.
        source: the float graph it was made from, to see whether a clip is missing.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    values = _Constants(model)
    weighted = [node for node in model.graph.node if node.op_type in WEIGHTED]
    quantised = [node for node in weighted if _maker(makers, node, 0) == "DequantizeLinear"]
    if not quantised:
        return ["no convolution or matrix product is quantised"]
    weights = {n.input[1] for n in quantised if n.input[1] in makers}
    biases = {n.input[2] for n in quantised if len(n.input) > 2 and n.input[2] in makers}
    found = []
    for name in sorted(biases if not flavour.biased else set()):
        found.append(f"the bias {name} is quantised")
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] not in weights | biases:
            found += _of_activation(node, values, flavour)
    for node in quantised:
        maker = makers.get(node.input[1])
        if maker is not None and maker.op_type == "DequantizeLinear":
            found += _of_weight(node, maker, makers, values, flavour)
    return found + (_lost_clips(model, source) if source is not None else [])


def _lost_clips(model: ModelProto, source: ModelProto) -> list[str]:
    """Clips that the range of the integers cannot stand for, as it always has zero in it."""
    kept = {node.name for node in model.graph.node}
    bounds = bounds_by_node(source.graph)
    found = []
    for node in source.graph.node:
        low, high = bounds.get(node.output[0], (0.0, 0.0)) or (math.nan, math.nan)
        if node.name not in kept and not low <= 0 <= high:
            found.append(f"{node.name}, which keeps values within {low:g} and {high:g}, is gone")
    return found


class _Constants:
    """Initialisers as arrays, read when they are wanted."""

    def __init__(self, model: ModelProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        return numpy_helper.to_array(self._tensors[name])


def _of_activation(node: NodeProto, values: _Constants, flavour: Flavour) -> Iterator[str]:
    zero = values[node.input[2]]
    expected = np.int8 if flavour.signed else np.uint8
    if zero.dtype != expected:
        yield f"{node.output[0]} is {zero.dtype}, expected {np.dtype(expected)}"
    if flavour.symmetric and zero.any():
        yield f"the zero point of {node.output[0]} is {zero.max()}, expected 0"


def _of_weight(
    node: NodeProto,
    maker: NodeProto,
    makers: Mapping[str, NodeProto],
    values: _Constants,
    flavour: Flavour,
) -> Iterator[str]:
    """Check a weight that passes ``maker`` on its way to ``node``."""
    source = maker.input[0]
    if source not in values:
        quantiser = makers[source]
        if quantiser.input[0] not in values:
            return  # the product of two activations
        if not flavour.pairs:
            yield f"the weight {source} is quantised anew at every run"
        shape, integers = values[quantiser.input[0]].shape, None
    else:
        integers = values[source]
        shape = integers.shape
        if flavour.pairs:
            yield f"the weight {source} has no quantiser"
    scale, zero = values[maker.input[1]], values[maker.input[2]]
    if zero.dtype != np.int8 or zero.any():
        yield f"the weight {source} is {zero.dtype} around {zero.max()}, expected int8 around 0"
    axis = _axis(node) % len(shape)
    stated = next((a.i for a in maker.attribute if a.name == "axis"), 1) % len(shape)
    if scale.shape != (shape[axis],) or stated != axis:
        yield f"the weight {source} has {scale.size} scales on axis {stated}, expected one per " + (
            f"channel on axis {axis}: {shape[axis]}"
        )
    if flavour.reduced and integers is not None and int(np.abs(integers.astype(int)).max()) > 64:
        yield f"the weight {source} takes 8 bits, expected 7"


def _axis(node: NodeProto) -> int:
    """Where a weight has its output channels."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return {"Conv": 0, "ConvTranspose": 1, "MatMul": -1}[node.op_type]


def _maker(makers: Mapping[str, NodeProto], node: NodeProto, index: int) -> str:
    maker = makers.get(node.input[index])
    return maker.op_type if maker is not None else ""
