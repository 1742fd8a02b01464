"""What an ONNX file says of itself, read without the onnx package, which devices do not have.

Fields are those of onnx/onnx.proto, the wire format is that of protobuf.dev/programming-guides/
encoding. Weights are skipped, never read. A file is refused whose weights lie anywhere else than
beside it: a runtime would read whatever it names.
"""

from __future__ import annotations

import mmap
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, Set, Tuple

from edgekd.agent.failures import AgentError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
OPSET_IMPORT, METADATA = 8, 14  # of ModelProto
OPERATOR = 4  # of NodeProto
DIMENSIONS, TYPE = 1, 2  # of TensorProto
WITHIN = {  # message -> its fields that are messages, as far as they may hold tensors
    "model": {7: "main", 20: "training", 25: "function"},
    "main": {1: "step", 5: "weight", 15: "sparse"},  # the model's own graph
    "step": {5: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
EXTERNAL = 13  # of TensorProto
LOCATION = "location"
"""The key of an external entry that names a file."""
NAMED = {1: "FLOAT", 10: "FLOAT16", 11: "DOUBLE", 16: "BFLOAT16"}  # TensorProto.DataType
MOST_FIELDS = 2**22
"""Of a file that is read, and numbers of packed ones; twice what a graph of 100,000 nodes has."""
MOST_TAG = 2**32
DEEPEST = 100
"""Messages within one another; protobuf's own readers follow no more."""
MOST_NUMBERS = 2**63
"""Of a tensor, beyond which nobody counts."""
PRECISION = "edgekd.precision"
QUANTISED = ("QuantizeLinear", "DequantizeLinear")
MULTIPLYING = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "Attention")
Field = Tuple[int, int, int, int]


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file, without its weights."""

    opset: int
    """Of the default domain."""
    operators: Dict[str, int] = field(default_factory=dict)
    """Operator -> nodes of the graph; graphs within nodes are left out."""
    metadata: Dict[str, str] = field(default_factory=dict)
    weights: Dict[str, int] = field(default_factory=dict)
    """``FLOAT``, ``FLOAT16``, ``BFLOAT16`` -> numbers of that type."""

    @property
    def precision(self) -> str:
        """``int8``, ``fp16`` or ``fp32``: by what edgekd wrote, else by what is in the graph."""
        said = self.metadata.get(PRECISION)
        if said in ("fp32", "fp16", "int8"):
            return said
        return self.types

    @property
    def types(self) -> str:
        """The same by the graph alone: Q/DQ nodes, else what most weights are."""
        if any(name in self.operators for name in QUANTISED):
            return "int8"
        return "fp16" if self.weights.get("FLOAT16", 0) > self.weights.get("FLOAT", 0) else "fp32"

    @property
    def multiplications(self) -> int:
        """Nodes where a network computes: convolutions and matrix products."""
        return sum(self.operators.get(name, 0) for name in MULTIPLYING)


def read_onnx(path: Path) -> OnnxFile:
    """Read a file.

    Raises:
        AgentError: it is not an ONNX model, or ends too early; its weights lie elsewhere.
    """
    found = _walked(path)
    if found.opsets:
        opset = found.opsets.get("") or found.opsets.get("ai.onnx")
        if opset is not None:
            return OnnxFile(opset, dict(found.operators), found.metadata, dict(found.weights))
    raise _not_whole(path)


def check_weights(path: Path) -> None:
    """Refuse a file that would have a runtime read other files than those beside it.

    Raises:
        AgentError: it is not an ONNX model, or ends too early; its weights lie elsewhere.
    """
    _walked(path)


def _walked(path: Path) -> _Walk:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walk = _Walk(data)
            walk.over()
    except ValueError as error:  # an empty one is none, either
        raise _not_whole(path) from error
    for name in sorted(walk.external):
        _check_beside(path, name)
    return walk


def _check_beside(path: Path, name: str) -> None:
    """Weights lie in the model's own folder, in a file of a plain name."""
    plain = name.isprintable() and "/" not in name and "\\" not in name and name != ".."
    if not plain:
        raise AgentError(
            "model",
            f"{path.name} says that its weights are in {name[:60]!r}, which is not a file beside "
            "it. It was not opened: whatever lies there would be read. Export it into one file, or "
            "ask whoever made it.",
        )
    try:
        there = path.with_name(name).is_file()
    except (OSError, ValueError):  # no name of a file
        there = False
    if not there:
        raise AgentError(
            "model",
            f"{path.name} has its weights in a second file, {name[:60]!r}, {_lost(path.name, name)}"
            " Or export it into one file (external_data=False).",
        )


def _lost(model: str, name: str) -> str:
    """Why a second file is not there: what was not sent cannot be looked at."""
    if name == f"{model}.data":
        return (
            "and no such plain file came with it: it is not in the model's folder, or it is a link "
            "to another one, a folder or a pipe. Put the file itself there."
        )
    return (
        f"and only one called {model}.data goes along with a model. Save it so: "
        f"onnx.save(onnx.load({model!r}), {model!r}, save_as_external_data=True, "
        f"location={model + '.data'!r})."
    )


def _not_whole(path: Path) -> AgentError:
    return AgentError(
        "model",
        f"{path.name} is not a whole ONNX model. Export it again, or copy it again and compare "
        "sizes.",
    )


class _Walk:
    """One way through all messages of a model; not recursive, as files nest as they like."""

    def __init__(self, data: Any) -> None:
        self._data, self._fields_left = data, MOST_FIELDS
        self.opsets: Dict[str, int] = {}
        self.operators: Dict[str, int] = Counter()
        self.metadata: Dict[str, str] = {}
        self.weights: Dict[str, int] = Counter()
        self.external: Set[str] = set()

    def over(self) -> None:
        """Go over all of it.

        Raises:
            ValueError: it is no protobuf, has too many fields or is nested too deeply.
        """
        within = [("model", self._fields(0, len(self._data)))]
        while within:
            kind, fields = within[-1]
            found = next(fields, None)
            if found is None:
                within.pop()
                continue
            number, wire, first, after = found
            inner = WITHIN[kind].get(number) if wire == BYTES else None
            if inner in ("weight", "tensor"):
                self._tensor(first, after, counted=inner == "weight")
            elif inner is not None:
                within.append((inner, self._fields(first, after)))
            elif wire == BYTES:
                self._note(kind, number, first, after)
            if len(within) > DEEPEST:
                raise ValueError("nested too deeply")

    def _note(self, kind: str, number: int, first: int, after: int) -> None:
        """What a model and its own nodes say of themselves."""
        if (kind, number) == ("step", OPERATOR):
            self.operators[self._text(first, after)] += 1
        elif (kind, number) == ("model", OPSET_IMPORT):
            self._operators_of(first, after)
        elif (kind, number) == ("model", METADATA):
            key, value = self._pair(first, after)
            self.metadata[key] = value

    def _tensor(self, start: int, stop: int, counted: bool) -> None:
        """Where a tensor's values are, and, of one of the model's own, how many there are."""
        dtype, count = 0, 1
        for number, wire, first, after in self._fields(start, stop):
            if (number, wire) == (EXTERNAL, BYTES):
                key, value = self._pair(first, after)
                if key == LOCATION:
                    self.external.add(value)
            elif (number, wire) == (TYPE, VARINT):
                dtype = first
            elif number == DIMENSIONS and wire in (VARINT, BYTES):
                sizes = [first] if wire == VARINT else self._packed(first, after)
                for size in sizes:
                    count = min(count * size, MOST_NUMBERS)
        if counted and dtype in NAMED:
            self.weights[NAMED[dtype]] += count

    def _packed(self, at: int, stop: int) -> Iterator[int]:
        while at < stop:
            self._count()
            value, at = self._varint(at, stop)
            yield value

    def _operators_of(self, start: int, stop: int) -> None:
        """An operator set: its domain and version."""
        domain, version = "", 0
        for number, wire, first, after in self._fields(start, stop):
            if (number, wire) == (1, BYTES):
                domain = self._text(first, after)
            elif (number, wire) == (2, VARINT):
                version = first
        self.opsets[domain] = version

    def _pair(self, start: int, stop: int) -> Tuple[str, str]:
        """A key and its value: the last that is text, as for the runtimes that read them, too."""
        found = {1: "", 2: ""}
        for number, wire, first, after in self._fields(start, stop):
            if number in found and wire == BYTES:
                found[number] = self._text(first, after)
        return found[1], found[2]

    def _count(self) -> None:
        self._fields_left -= 1
        if not self._fields_left:
            raise ValueError("too many fields")

    def _fields(self, at: int, stop: int) -> Iterator[Field]:
        """Number and kind of each field, and where it begins and ends; of a number, its value."""
        while at < stop:
            self._count()
            tag, at = self._varint(at, stop)
            if tag >= MOST_TAG:
                raise ValueError("the number of a field that some readers cut to 32 bits")
            number, wire = divmod(tag, 8)
            if wire == VARINT:
                value, at = self._varint(at, stop)
                yield number, wire, value, at
                continue
            if wire == BYTES:
                size, at = self._varint(at, stop)
            else:
                size = {FIXED64: 8, FIXED32: 4}.get(wire, stop)  # else no field of a model's
            if at + size > stop:
                raise ValueError("the end of the message")
            yield number, wire, at, at + size
            at += size

    def _text(self, first: int, after: int) -> str:
        return bytes(self._data[first:after]).decode("utf-8", "replace")

    def _varint(self, at: int, stop: int) -> Tuple[int, int]:
        """Seven bits a byte, the lowest first; the eighth says that more follow."""
        value = 0
        for place in range(0, 70, 7):
            if at >= stop:
                break
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << place
            if byte < 0x80:
                return value, at
        raise ValueError("the end of the message, or a number of more than ten bytes")
