"""Which precision each node of an ONNX graph computes in, read from the graph.

int8 is written as QuantizeLinear (Q) and DequantizeLinear (DQ) around float operators, and what
computes in integers is decided by whoever runs it. The rule here is what ONNX Runtime was seen to
fuse (1.31 on x86, one graph per operator, its optimised form read back), unsigned activations
provided, as it fuses signed ones only in part:

- a convolution or matrix product is int8 if both its input and its weight come from a DQ, that of
  the input with one scale: what reads a scale per channel is left in float;
- an operator of :data:`FUSED` or :data:`MOVES` is int8 if all its float inputs come from a DQ and
  all that reads it is a Q;
- Relu and Clip are int8 if they stand between a DQ, or a product in int8, and a Q: they are merged
  with the rounding;
- everything else computes in the type of its output, also between DQ and Q: HardSwish, Gelu,
  ReduceMean, LayerNormalization, Sub and Div have no integer form.

Q and DQ compute nothing and are left out, and so are nodes that compute shapes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

__all__ = ["WEIGHTED", "node_types"]

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that decide a network's precision."""
FUSED = (
    *("Add", "Mul", "Concat", "Where", "Sigmoid", "LeakyRelu", "Softmax"),
    *("AveragePool", "GlobalAveragePool"),
)
MOVES = (
    *("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Identity"),
    *("Gather", "Slice", "Split", "Resize", "DepthToSpace", "SpaceToDepth", "MaxPool"),
)
"""They move values without computing, so they do it with integers as well."""
CLAMPS = ("Relu", "Clip")
Q, DQ = "QuantizeLinear", "DequantizeLinear"
INTEGER = ("Integer", "QLinear", "QGemm", "QAttention")
"""Parts of the names of operators that take integers as they are."""


@dataclass(frozen=True)
class Surroundings:
    """What a node is judged by."""

    types: Mapping[str, str]
    makers: Mapping[str, NodeProto]
    readers: Mapping[str, set[str]]
    """Operators that read a value; an empty name is the graph's output."""
    vectors: frozenset[str]
    """Constants of several numbers."""

    def dequantised(self, name: str, scalar: bool = False) -> bool:
        """Whether a value comes from a DQ, perhaps moved since; if asked so, of one scale."""
        maker = self.makers.get(name)
        while maker is not None and maker.op_type in MOVES:
            maker = self.makers.get(maker.input[0])
        if maker is None or maker.op_type != DQ:
            return False
        return not (scalar and maker.input[1] in self.vectors)

    def int8_product(self, node: NodeProto | None) -> bool:
        """Whether a node is a convolution or matrix product in int8."""
        return (
            node is not None
            and node.op_type in WEIGHTED
            and self.dequantised(node.input[0], scalar=True)
            and self.dequantised(node.input[1])
        )


def node_types(model: ModelProto) -> dict[str, dict[str, int]]:
    """Number of nodes by operator and precision: ``{"Conv": {"int8": 20, "fp32": 1}}``.

    Args:
        model: its weights are not needed.
    """
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model).graph
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for operator, precision in _each(graph):
        found[operator][precision] += 1
    most = sorted(found, key=lambda operator: -found[operator].total())
    return {operator: dict(found[operator].most_common()) for operator in most}


def _each(graph: GraphProto) -> Iterator[tuple[str, str]]:
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, set[str]] = defaultdict(set)
    for node in graph.node:
        for name in node.input:
            readers[name].add(node.op_type)
    for output in graph.output:
        readers[output.name].add("")
    vectors = frozenset(t.name for t in graph.initializer if prod(t.dims) > 1)
    around = Surroundings(_types(graph), makers, readers, vectors)
    for node in graph.node:
        if node.op_type in (Q, DQ, "Constant"):
            continue
        precision = around.types.get(node.output[0], "unknown")
        if _is_int8(node, around):
            precision = "int8"
        if precision:  # none: it computes with shapes
            yield node.op_type, precision


def _types(graph: GraphProto) -> dict[str, str]:
    """Precision of each value; empty where it holds no floating-point numbers."""
    from onnx import TensorProto

    names = {
        TensorProto.FLOAT: "fp32",
        TensorProto.FLOAT16: "fp16",
        TensorProto.BFLOAT16: "bf16",
        TensorProto.DOUBLE: "fp64",
    }
    values = [*graph.value_info, *graph.input, *graph.output]
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {
        name: names.get(kind, "unknown" if kind == TensorProto.UNDEFINED else "")
        for name, kind in kinds.items()
    }


def _is_int8(node: NodeProto, around: Surroundings) -> bool:
    operator = node.op_type
    if any(part in operator for part in INTEGER):
        return True
    if operator in WEIGHTED:
        return around.int8_product(node)
    if not all(around.readers[name] == {Q} for name in node.output if name):
        return False
    if operator in CLAMPS:
        source = node.input[0]
        return around.dequantised(source) or around.int8_product(around.makers.get(source))
    floats = [name for name in node.input if name and around.types.get(name)]
    if operator in MOVES:
        floats = floats[:1]  # the others are scales, or tell where to
    return operator in (*FUSED, *MOVES) and all(around.dequantised(name) for name in floats)
