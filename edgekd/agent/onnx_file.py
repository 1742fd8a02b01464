"""What an ONNX file says of itself, read without the onnx package, which devices do not have.

Fields are those of onnx/onnx.proto, the wire format is that of protobuf.dev/programming-guides/
encoding. Weights are skipped, never read.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Dict, Iterator, Tuple, Union

from edgekd.agent.failures import AgentError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
GRAPH, OPSET_IMPORT, METADATA = 7, 8, 14  # of ModelProto
NODE, INITIALIZER = 1, 5  # of GraphProto
OPERATOR = 4  # of NodeProto
DIMENSIONS, TYPE = 1, 2  # of TensorProto
NAMED = {1: "FLOAT", 10: "FLOAT16", 16: "BFLOAT16"}  # TensorProto.DataType
PRECISION = "edgekd.precision"
QUANTISED = ("QuantizeLinear", "DequantizeLinear")
MULTIPLYING = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "Attention")
Field = Tuple[int, int, int]


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
        AgentError: it is not an ONNX model, or ends too early.
    """
    size = path.stat().st_size
    opsets: Dict[str, int] = {}
    operators: Dict[str, int] = Counter()
    weights: Dict[str, int] = Counter()
    metadata: Dict[str, str] = {}
    with path.open("rb") as file:
        try:
            for number, kind, end in _fields(file, size):
                if kind != BYTES:
                    continue
                if number == GRAPH:
                    _read_graph(file, end, operators, weights)
                elif number == OPSET_IMPORT:
                    domain, version = _pair(file, end)
                    opsets[str(domain)] = int(version or 0)
                elif number == METADATA:
                    key, value = _pair(file, end)
                    metadata[str(key)] = str(value)
            return OnnxFile(_default(opsets), dict(operators), metadata, dict(weights))
        except (KeyError, ValueError):
            pass
    raise AgentError(
        "model",
        f"{path.name} is not a whole ONNX model. Export it again, or copy it again and compare "
        "sizes.",
    )


def _default(opsets: Dict[str, int]) -> int:
    return opsets.get("") or opsets["ai.onnx"]


def _read_graph(
    file: IO[bytes], end: int, operators: Dict[str, int], weights: Dict[str, int]
) -> None:
    for number, kind, stop in _fields(file, end):
        if kind == BYTES and number == NODE:
            for name, its_kind, its_end in _fields(file, stop):
                if (name, its_kind) == (OPERATOR, BYTES):
                    operators[_text(file, its_end)] += 1
        elif kind == BYTES and number == INITIALIZER:
            dtype, count = _tensor(file, stop)
            if dtype in NAMED:
                weights[NAMED[dtype]] += count


def _tensor(file: IO[bytes], end: int) -> Tuple[int, int]:
    """The type of a tensor, and how many numbers it has."""
    dtype, count = 0, 1
    for number, kind, stop in _fields(file, end):
        if (number, kind) == (TYPE, VARINT):
            dtype = stop
        elif (number, kind) == (DIMENSIONS, VARINT):
            count *= stop
        elif (number, kind) == (DIMENSIONS, BYTES):  # packed
            while file.tell() < stop:
                count *= _varint(file)
    return dtype, count


def _pair(file: IO[bytes], end: int) -> Tuple[Union[str, int], Union[str, int]]:
    """A message of two fields: an operator set's domain and version, or a key and its value."""
    found: Dict[int, Union[str, int]] = {1: "", 2: ""}
    for number, kind, stop in _fields(file, end):
        if kind == VARINT:
            found[number] = stop
        elif kind == BYTES:
            found[number] = _text(file, stop)
    return found[1], found[2]


def _fields(file: IO[bytes], end: int) -> Iterator[Field]:
    """Number and kind of each field, and its value if that is a number, else where it ends.

    Whatever was read of a field meanwhile, the next one is found.
    """
    while file.tell() < end:
        number, kind = divmod(_varint(file), 8)
        if kind == VARINT:
            yield number, kind, _varint(file)
            continue
        if kind not in (FIXED64, FIXED32, BYTES):
            raise ValueError(kind)
        size = _varint(file) if kind == BYTES else {FIXED64: 8, FIXED32: 4}[kind]
        stop = file.tell() + size
        if stop > end:
            raise ValueError("the end of the message")
        yield number, kind, stop
        file.seek(stop)


def _text(file: IO[bytes], end: int) -> str:
    return _read(file, end - file.tell()).decode("utf-8")


def _varint(file: IO[bytes]) -> int:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    value = 0
    for place in range(0, 70, 7):
        byte = _read(file, 1)[0]
        value |= (byte & 0x7F) << place
        if byte < 0x80:
            return value
    raise ValueError("a number of more than ten bytes")


def _read(file: IO[bytes], size: int) -> bytes:
    found = file.read(size)
    if len(found) < size:
        raise ValueError("the end of the file")
    return found
