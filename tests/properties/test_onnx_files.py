"""What is read of an ONNX file without the onnx package is what that package reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgekd.agent.failures import AgentError
from edgekd.agent.onnx_file import NAMED, OnnxFile, check_weights, read_onnx

TEXT = st.text(max_size=200)
OPERATORS = st.sampled_from(["Conv", "Relu", "QuantizeLinear", "Gemm", "own op", "é"])
DTYPES = st.sampled_from([np.float32, np.float16, np.int64, np.uint8])
SHAPES = st.lists(st.integers(0, 5), max_size=4)


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    nodes = [
        helper.make_node(name, [draw(TEXT)], ["y"], doc_string=draw(TEXT), alpha=draw(TEXT))
        for name in draw(st.lists(OPERATORS, max_size=5))
    ]
    weights = [
        numpy_helper.from_array(np.zeros(shape, dtype), draw(TEXT))
        for shape, dtype in draw(st.lists(st.tuples(SHAPES, DTYPES), max_size=4))
    ]
    graph = helper.make_graph(nodes, draw(TEXT), [], [], weights)
    sets = [helper.make_opsetid("", draw(st.integers(1, 2**31)))]
    sets += [helper.make_opsetid(one, 1) for one in draw(st.lists(st.just("com.microsoft")))]
    model = helper.make_model(graph, opset_imports=sets)
    helper.set_model_props(model, draw(st.dictionaries(TEXT, TEXT, max_size=3)))
    return model


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx") / "a.onnx"


@given(model=models())
def test_both_read_the_same(file: Path, model: onnx.ModelProto) -> None:
    file.write_bytes(model.SerializeToString())
    weights: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        if tensor.data_type in NAMED:
            weights[NAMED[tensor.data_type]] += int(np.prod(tensor.dims, dtype=np.int64))
    assert read_onnx(file) == OnnxFile(
        opset=model.opset_import[0].version,
        operators=dict(Counter(node.op_type for node in model.graph.node)),
        metadata={one.key: one.value for one in model.metadata_props},
        weights=dict(weights),
    )


@given(model=models(), share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_ends_early_is_never_read_for_more(
    file: Path, model: onnx.ModelProto, share: float
) -> None:
    whole = model.SerializeToString()
    file.write_bytes(whole[: int(share * len(whole))])
    try:
        found = read_onnx(file)
    except AgentError:
        return
    operators = Counter(node.op_type for node in model.graph.node)
    assert all(count <= operators[name] for name, count in found.operators.items())


def ways(kind: Any, seen: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every way through onnx.proto from a message to a tensor, the same message twice at most."""
    for field in kind.fields:
        inner = field.message_type
        if inner is None or seen.count(inner.name) > 1:
            continue
        if inner.name == "TensorProto":
            yield (field.name,)
        else:
            yield from ((field.name, *rest) for rest in ways(inner, (*seen, inner.name)))


WAYS = sorted(ways(onnx.ModelProto.DESCRIPTOR))


def pointing(way: Sequence[str], place: str) -> onnx.ModelProto:
    """A model with one tensor, whose weights lie in another file."""
    model = onnx.ModelProto(opset_import=[helper.make_opsetid("", 18)])
    message: Any = model
    for name in way:
        field = getattr(message, name)
        message = field.add() if hasattr(field, "add") else field
    message.data_location = onnx.TensorProto.EXTERNAL
    message.external_data.add(key="location", value=place)
    return model


def test_weights_elsewhere_are_refused_wherever_the_tensor_is(file: Path) -> None:
    assert len(WAYS) > 100
    for way in WAYS:
        for place in ("../secret", "/etc/passwd"):
            file.write_bytes(pointing(way, place).SerializeToString())
            with pytest.raises(AgentError, match="its weights are in"):
                check_weights(file)


@given(way=st.sampled_from(WAYS), place=st.text(min_size=1))
def test_weights_are_never_taken_from_another_folder(
    file: Path, way: Sequence[str], place: str
) -> None:
    file.write_bytes(pointing(way, place).SerializeToString())
    with pytest.raises(AgentError):  # there is no file beside it
        check_weights(file)
