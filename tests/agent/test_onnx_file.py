"""What a file says of itself, read without the onnx package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekd.agent import onnx_file
from edgekd.agent.failures import AgentError
from edgekd.agent.onnx_file import OnnxFile, check_weights, read_onnx


@pytest.mark.parametrize("version", [9, 18, 200])  # 200 takes two bytes
@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_it_is_what_onnx_says(
    tiny: Mapping[str, Any], tmp_path: Path, version: int, domain: str
) -> None:
    model = onnx.load(tiny["classifier"](tmp_path / "a.onnx", metadata=True))
    del model.opset_import[:]
    sets = [("com.microsoft", 1), (domain, version)]
    model.opset_import.extend(helper.make_opsetid(*one) for one in sets)
    onnx.save(model, tmp_path / "b.onnx")
    assert read_onnx(tmp_path / "b.onnx").opset == version


def test_a_file_cut_anywhere_is_refused(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    whole = tiny["classifier"](tmp_path / "a.onnx").read_bytes()
    cut = tmp_path / "cut.onnx"
    for length in [*range(0, len(whole), 5), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(AgentError, match=r"cut\.onnx is not a whole ONNX model"):
            read_onnx(cut)


@pytest.mark.parametrize(
    "content", [b"this is not a model" * 10, b"\xff" * 40, b"{}", b"\x42\x02\x0f\x00"]
)
def test_what_is_no_model(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(AgentError, match="Export it again, or copy it again"):
        read_onnx(tmp_path / "a.onnx")


def field(number: int, data: bytes) -> bytes:
    """A message or a text of less than 128 bytes, as protobuf writes it."""
    return bytes([8 * number + 2, len(data)]) + data


def holding(tensor: bytes) -> bytes:
    """A model with a tensor in it."""
    return field(7, field(5, tensor)) + field(8, b"\x10\x12")


AWAY = field(1, b"location") + field(2, b"../secret.bin")
TAG = 8 * 13 + 2


@pytest.mark.parametrize(
    "after",
    [b"", b"\x08\x05", b"\x10\x05", b"\x09" + bytes(8), b"\x0d" + bytes(4), b"\x9a\x00\x00"],
    ids=[
        "nothing",
        "a number for the key",
        "one for the value",
        "8 bytes",
        "4 bytes",
        "a longer tag",
    ],
)
def test_a_place_is_what_protobuf_reads(after: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(holding(field(13, AWAY + after)))
    [seen] = onnx.load(tmp_path / "a.onnx", load_external_data=False).graph.initializer
    assert seen.external_data[0].key == "location"
    with pytest.raises(AgentError, match="says that its weights are in"):
        check_weights(tmp_path / "a.onnx")


@pytest.mark.parametrize("more", [1, 2**5, 2**30])  # times 2**32, which a runtime cuts off
def test_fields_of_more_than_32_bits_are_refused(more: int, tmp_path: Path) -> None:
    tag, digits = TAG + (more << 32), b""
    while tag > 127:
        tag, digits = tag >> 7, digits + bytes([tag & 127 | 128])
    tensor = digits + bytes([tag, len(AWAY)]) + AWAY
    (tmp_path / "a.onnx").write_bytes(holding(tensor))
    with pytest.raises(AgentError, match="is not a whole ONNX model"):
        check_weights(tmp_path / "a.onnx")


@pytest.mark.parametrize("count", [20, 30])
def test_packed_numbers_count_as_fields(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "MOST_FIELDS", 30)
    (tmp_path / "a.onnx").write_bytes(holding(field(1, b"\x01" * count)))
    if count == 20:
        assert read_onnx(tmp_path / "a.onnx").opset == 18
        return
    with pytest.raises(AgentError, match="is not a whole ONNX model"):
        read_onnx(tmp_path / "a.onnx")


@pytest.mark.parametrize("split", [False, True], ids=["whole", "weights apart"])
def test_operators_metadata_and_weights(
    tiny: Mapping[str, Any], tmp_path: Path, split: bool
) -> None:
    model = onnx.load(tiny["classifier"](tmp_path / "a.onnx", metadata=True))
    half = numpy_helper.from_array(np.zeros((70, 3), np.float16), "half")
    model.graph.initializer.append(half)
    file = tmp_path / "b.onnx"
    onnx.save(model, file, save_as_external_data=split, location="b.data", size_threshold=0)
    found = read_onnx(file)
    assert found.operators == dict(Counter(node.op_type for node in model.graph.node))
    assert found.metadata == {entry.key: entry.value for entry in model.metadata_props}
    assert found.weights == {"FLOAT": 3 * 6 + 6 + 3 + 3, "FLOAT16": 210}
    assert found.multiplications == 1
    assert found.types == "fp16"


def test_the_precision_is_what_edgekd_wrote_else_what_the_graph_has() -> None:
    quantised = {"DequantizeLinear": 2, "Conv": 1}
    assert OnnxFile(18).precision == "fp32"
    assert OnnxFile(18, weights={"FLOAT": 1, "FLOAT16": 2}).precision == "fp16"
    assert OnnxFile(18, quantised, weights={"FLOAT16": 2}).precision == "int8"
    assert OnnxFile(18, quantised, {"edgekd.precision": "fp16"}).precision == "fp16"
    assert OnnxFile(18, quantised, {"edgekd.precision": "auto"}).precision == "int8"
