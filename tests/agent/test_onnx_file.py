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

from edgekd.agent.failures import AgentError
from edgekd.agent.onnx_file import OnnxFile, read_onnx


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
