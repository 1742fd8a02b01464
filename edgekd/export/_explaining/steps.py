"""A graph as the steps that compute, without the nodes that only carry a value on.

QuantizeLinear, DequantizeLinear and Cast change how a value is written down, so what comes out of
them is held to be the same value, with the error they add.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekd.export._explaining.tensors import flowing
from edgekd.export._graph import WEIGHTED

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Step", "counterparts", "origins", "steps_of"]

CARRIERS = ("QuantizeLinear", "DequantizeLinear", "Cast", "Identity")
QUANTISED_OUTPUT = "_QuantizeLinear_Input"
"""ONNX Runtime's quantizer gives a graph output's name to what it dequantised, and this ending to
the value before."""


@dataclass(frozen=True)
class Step:
    """A node that computes, and one of its outputs; the graph's input is a step, too."""

    op: str
    node: str
    inputs: tuple[str, ...]
    """As it reads them; without weights and constants."""
    value: str
    """Its output, as it writes it."""
    ends: tuple[str, ...]
    """Its output as others read it: behind what only carries it on."""


def steps_of(model: ModelProto) -> list[Step]:
    """The steps of a graph that depend on its input, in the order they are computed."""
    graph = model.graph
    flow = dict.fromkeys(flowing(graph))
    origin = origins(model)
    read = {n for node in graph.node if node.op_type not in CARRIERS for n in node.input}
    read |= {output.name for output in graph.output}
    ends: dict[str, list[str]] = {}
    for name in flow:
        if name in read:
            ends.setdefault(origin[name], []).append(name)
    constants = {tensor.name for tensor in graph.initializer}
    found = [
        Step("Input", e.name, (), e.name, tuple(ends.get(e.name, ())))
        for e in graph.input
        if e.name not in constants
    ]
    for index, node in enumerate(graph.node):
        if node.op_type in CARRIERS:
            continue
        inputs = tuple(name for name in node.input if name in flow)
        found += [
            Step(node.op_type, node.name or f"#{index}", inputs, name, tuple(ends.get(name, ())))
            for name in node.output
            if name in flow
        ]
    return found


def origins(model: ModelProto) -> dict[str, str]:
    """Of each value of a graph the one it was before it was carried on."""
    found = {name: name for name in flowing(model.graph)}
    for node in model.graph.node:
        if node.op_type in CARRIERS and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def counterparts(
    reduced: Sequence[Step], floating: Sequence[Step], quantised: bool
) -> dict[str, str]:
    """Which value of a float file each step of a reduced one should give.

    Names decide after the quantizer, which sorts the nodes anew and takes some out: it lets the
    range of what is quantised do the work of a ReLU, and gives the value the ReLU's name. A half
    network is exported by itself and its names may be others, so there the same operators in the
    same order decide. Else it is the order among weighted operators of one kind.

    Args:
        reduced: steps of the int8 or fp16 file.
        floating: those of the float file.
        quantised: whether the quantizer has made the file from the float one.

    Returns:
        value of the float file by ``Step.value``; what has none is left out.
    """
    if not quantised and [s.op for s in reduced] == [s.op for s in floating]:
        return {a.value: b.value for a, b in zip(reduced, floating, strict=True)}
    known = {name: step.value for step in floating for name in (*step.ends, step.value)}
    found = {}
    for step in reduced:
        names = (step.value, step.value.removesuffix(QUANTISED_OUTPUT), *step.ends)
        match = next((known[name] for name in names if name in known), None)
        if match is not None:
            found[step.value] = match
    weighted = [step for step in reduced if step.op in WEIGHTED]
    if 2 * sum(step.value in found for step in weighted) >= len(weighted):
        return found
    return _by_order(weighted, [step for step in floating if step.op in WEIGHTED])


def _by_order(reduced: Sequence[Step], floating: Sequence[Step]) -> dict[str, str]:
    """Pair the steps of each kind of operator, where there are as many of it."""
    counts: Mapping[str, int] = Counter(step.op for step in floating)
    same = {op for op, n in Counter(step.op for step in reduced).items() if counts.get(op) == n}
    return {
        a.value: b.value
        for op in same
        for a, b in zip(
            (step for step in reduced if step.op == op),
            (step for step in floating if step.op == op),
            strict=True,
        )
    }
