"""Which precision an engine has: what its own inspector says of its layers.

Asking for fp16 permits TensorRT to use it; whether it did, only the engine knows. Both generations
of the inspector's JSON are read (NVIDIA, "TensorRT Developer Guide", engine inspector):

- 8.x and 10.x: ``{"Layers": [...], "Bindings": [...]}``, and each tensor has one text,
  ``"Format/Datatype": "Row major linear FP16 format"``, or ``"Half"``.
- 11: ``"I/O Tensors"`` for ``"Bindings"``, and ``"Format"`` and ``"DataType"`` apart.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from edgekd.agent.failures import AgentError

TYPES = (  # NVIDIA's words -> ours; the first that fits, as "BFloat16" has "Float" in it
    (r"bf16|bfloat16", "bf16"),
    (r"fp16|float16|half", "fp16"),
    (r"fp8|float8|e4m3", "fp8"),
    (r"fp4", "fp4"),
    (r"uint8", "other"),
    (r"int8", "int8"),
    (r"int4", "int4"),
    (r"fp32|float32|float", "fp32"),
)
UNKNOWN = "unknown"
WIDEST = (UNKNOWN, "fp32", "bf16", "fp16", "fp8", "int8", "int4", "fp4", "other")
MOVING = re.compile(
    "reformat|shuffle|constant|shape|slice|concat|gather|identity|cast|noop|copy|move|signal|wait|"
    "quantize|assert|resize|padding|transpose|^scale$",
    re.IGNORECASE,
)
"""Layers that move or convert numbers; their type says nothing about where time goes."""
OPAQUE = re.compile(r"myelin|foreignnode", re.IGNORECASE)
"""Much of a transformer in one node, of which 8.x shows the ends: ``{ForeignNode[a...b]}``, of type
Myelin. Inside it may compute in any precision that was permitted."""
REDUCED = ("bf16", "fp16", "fp8", "int8", "int4", "fp4")
MULTIPLYING = re.compile("conv|gemm|matrix|matmul|fully|dot|einsum|^dla$", re.IGNORECASE)
"""Layers where a network computes: their precision is that of the engine."""
NAMED = 4  # layers in a message


@dataclass(frozen=True)
class Layer:
    """A layer of a built engine."""

    name: str
    type: str
    precision: str
    """``fp32``, ``fp16``, ``int8``, ...; ``other`` for whole numbers and truths."""
    weighted: bool
    """Whether it multiplies: a convolution, a matrix product."""
    opaque: bool = False
    """Whether it is many layers in one."""


@dataclass(frozen=True)
class Inspection:
    """The layers that compute, and the label they give the engine."""

    layers: Tuple[Layer, ...]
    multiplications: int = 0
    """Of the graph; those that are not seen are in the opaque layers. 0: not known."""

    @property
    def judged(self) -> Tuple[Layer, ...]:
        """The multiplying layers; all that compute, where there are none."""
        return tuple(one for one in self.layers if one.weighted) or self.layers

    @property
    def weights(self) -> Tuple[float, ...]:
        """How many multiplications each judged layer stands for."""
        opaque = sum(one.opaque for one in self.judged)
        hidden = max(self.multiplications - (len(self.judged) - opaque), opaque)
        return tuple(hidden / opaque if one.opaque else 1.0 for one in self.judged)

    @property
    def counts(self) -> Dict[str, int]:
        """Computing layers of each precision."""
        return dict(Counter(layer.precision for layer in self.layers))

    @property
    def shares(self) -> Dict[str, float]:
        """Share of the judged layers that have each precision; ``unknown`` for opaque ones."""
        found: Dict[str, float] = {}
        for layer, weight in zip(self.judged, self.weights):
            found[layer.precision] = found.get(layer.precision, 0.0) + weight
        total = sum(found.values())
        ordered = sorted(found.items(), key=lambda item: -item[1])
        return {name: weight / total for name, weight in ordered}

    @property
    def label(self) -> str:
        """The precision that most judged layers have; the wider one where two have as many.

        ``unknown`` where most of the work is hidden.
        """
        shares = self.shares
        most = max(shares.values(), default=0.0)
        alike = [name for name, share in shares.items() if share == most]
        return next((name for name in WIDEST if name in alike), next(iter(alike), UNKNOWN))

    def to_dict(self) -> Dict[str, Any]:
        """For the result: JSON."""
        rows = [[one.name, one.type, one.precision] for one in self.layers]
        return {"label": self.label, "counts": self.counts, "shares": self.shares, "layers": rows}


def inspect(text: str, hidden: str = UNKNOWN, multiplications: int = 0) -> Inspection:
    """Read what the inspector said.

    Args:
        text: its JSON.
        hidden: the precision of opaque layers, where that is known in another way.
        multiplications: convolutions and matrix products of the graph; 0: not known.

    Raises:
        AgentError: it is no such JSON, or the engine was built without the details.
    """
    try:
        layers = json.loads(text)["Layers"]
    except (KeyError, TypeError, ValueError) as error:
        raise AgentError(
            "output",
            f"TensorRT's engine inspector gave no layers ({error}): {text[:200]!r}. Its precision "
            "is not known, so the engine is not accepted. Report it with TensorRT's version.",
        ) from error
    if layers and not any(isinstance(layer, Mapping) for layer in layers):
        raise AgentError(
            "output",
            "the engine holds the names of its layers only, so its precision cannot be read. Build "
            "it with profiling verbosity DETAILED, as edgekd does.",
        )
    found = [_layer(layer, hidden) for layer in layers if isinstance(layer, Mapping)]
    return Inspection(tuple(one for one in found if one is not None), multiplications)


def check(found: Inspection, precision: str, share: float) -> None:
    """Refuse an engine that is not in the precision that was asked for.

    Args:
        found: its layers.
        precision: the one asked for.
        share: of the judged layers that must have it.
    """
    if fits(found.to_dict(), precision, share):
        return
    if found.label == UNKNOWN:
        raise AgentError("precision", _untold(found, precision))
    has = found.shares.get(precision, 0.0)
    others = [layer for layer in found.judged if layer.precision != precision]
    named = ", ".join(f"{one.name} ({one.precision})" for one in others[:NAMED])
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    raise AgentError(
        "precision",
        f"{precision} was asked for and the engine is {found.label}: {has:.0%} of its "
        f"{len(found.judged)} multiplying layers are {precision}, expected {share:.0%} at least "
        "and more than of any other. "
        f"Others: {named}{more}. Ask for {found.label}, or for a graph that has the types itself.",
    )


def fits(inspection: Mapping[str, Any], precision: str, share: float) -> bool:
    """Whether an engine, by what :meth:`Inspection.to_dict` kept of it, has a precision.

    Its label must be that precision, and its share enough; with a share of 0 anything fits.
    """
    enough = float(inspection["shares"].get(precision, 0.0)) >= share
    return share <= 0 or (enough and inspection["label"] == precision)


def _untold(found: Inspection, precision: str) -> str:
    """Why an engine's precision is not known, and what would make it known."""
    if not found.layers:
        return (
            f"{precision} was asked for, and the engine has no layer that computes, so it has no "
            "precision. Check that the graph is a network: edgekd export writes one."
        )
    opaque = ", ".join(one.name for one in found.layers if one.opaque)
    return (
        f"{precision} was asked for, and the engine's precision is unknown: TensorRT fused "
        f"{found.shares.get(UNKNOWN, 0.0):.0%} of its multiplications into nodes that it does not "
        f"look into ({opaque[:200]}). TensorRT 10 or newer builds from a typed graph, whose types "
        f"are binding: update it, and export with --precision {precision} for this device. Or ask "
        "for fp32, which permits nothing else."
    )


def _layer(table: Mapping[str, Any], hidden: str) -> Optional[Layer]:
    """One layer; None if it does not compute."""
    kind, name = str(table.get("LayerType", "")), str(table.get("Name", ""))
    if OPAQUE.search(kind) or name.startswith("{ForeignNode"):
        return Layer(name, kind, _within(table, hidden), weighted=True, opaque=True)
    weights = table.get("Weights")
    weighted = isinstance(weights, Mapping) and bool(weights.get("Count", 1))
    weighted = weighted or bool(MULTIPLYING.search(kind))
    outputs = _types(table.get("Outputs") or ())
    if (MOVING.search(kind) and not weighted) or not outputs:
        return None
    precision = _computed(table, outputs) if weighted else outputs[0]
    return Layer(name, kind, precision, weighted)


def _within(table: Mapping[str, Any], hidden: str) -> str:
    """The precision of an opaque layer: as known, or of all its ends if that is a reduced one.

    Ends in float32 say nothing: it converts inside.
    """
    ends = _types([*(table.get("Inputs") or ()), *(table.get("Outputs") or ())])
    found = {name for name in ends if name != "other"}
    if hidden == UNKNOWN and len(found) == 1 and found <= set(REDUCED):
        return found.pop()
    return hidden


def _computed(table: Mapping[str, Any], outputs: Sequence[str]) -> str:
    """An int8 convolution may put out floats, so its weights and inputs count first."""
    weights = table.get("Weights")
    if isinstance(weights, Mapping) and weights.get("Type"):
        return precision_of(str(weights["Type"]))
    inputs = _types(table.get("Inputs") or ())
    return "int8" if "int8" in inputs else outputs[0]


def _types(tensors: Sequence[Mapping[str, Any]]) -> List[str]:
    return [precision_of(_words(tensor)) for tensor in tensors]


def _words(tensor: Mapping[str, Any]) -> str:
    for key in ("DataType", "Datatype", "Format/Datatype"):
        if key in tensor:
            return str(tensor[key])
    return ""


def precision_of(words: str) -> str:
    """``Channel major FP16 format where channel % 8 == 0`` is fp16."""
    for pattern, name in TYPES:
        if re.search(pattern, words, re.IGNORECASE):
            return name
    return "other"
