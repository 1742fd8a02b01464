"""ONNX Runtime as found, and its refusals as sentences."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgekd.agent import runtimes
from edgekd.agent.accuracy import answer, read_array
from edgekd.agent.failures import AgentError
from edgekd.agent.feeds import Normalise, image_input
from edgekd.agent.runtimes import Session

OPTIONS = {"provider": "CPUExecutionProvider", "threads": 1, "spinning": False}
ORT = runtimes.load("ort")


def opened(path: Path, **options: Any) -> Session:
    return ORT.open(ORT.prepare(path, OPTIONS), {**OPTIONS, **options})


def test_a_session_says_what_it_is(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    session = opened(tiny["classifier"](tmp_path / "a.onnx", metadata=True))
    assert session.info == {
        "name": "onnxruntime",
        "version": onnxruntime.__version__,
        "provider": "CPUExecutionProvider",
    }
    assert [str(spec) for spec in session.inputs] == ["x: uint8[?,8,8,3]"]
    assert session.metadata["edgekd.mean"] == "[0.5, 0.4, 0.3]"
    outputs = session.run({"x": tiny["pictures"](2)})
    assert outputs["logits"].shape == (2, 6)
    session.close()


@pytest.mark.parametrize("options", [{"threads": 2, "spinning": True, "interleaved": True}])
def test_knobs_are_accepted(
    tiny: Mapping[str, Any], tmp_path: Path, options: dict[str, Any]
) -> None:
    session = opened(tiny["classifier"](tmp_path / "a.onnx"), **options)
    assert session.run({"x": tiny["pictures"](1)})["logits"].shape == (1, 6)


def test_layers_are_those_that_ran(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    path = tiny["classifier"](tmp_path / "a.onnx", repeat=2)
    layers = ORT.layers(path, OPTIONS, {"x": tiny["pictures"](1)})
    assert {"Sin", "GlobalAveragePool"} <= {layer.type for layer in layers}
    assert {layer.provider for layer in layers} == {"CPUExecutionProvider"}
    assert all(layer.ms > 0 for layer in layers)
    assert [p.name for p in Path.cwd().glob("ort*.json")] == []


def test_a_provider_that_is_not_there_is_refused(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    path = tiny["classifier"](tmp_path / "a.onnx")
    with pytest.raises(AgentError, match=r"CUDAExecutionProvider was asked for.*CPUExec") as e:
        opened(path, provider="CUDAExecutionProvider")
    assert e.value.kind == "provider"


def test_a_fall_back_is_refused(
    tiny: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that has CUDA on a machine without it falls back silently; edgekd does not."""
    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, config, providers: real(path, config, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(AgentError, match="fell back to CPUExecutionProvider for a"):
        opened(tiny["classifier"](tmp_path / "a.onnx"), provider="CUDAExecutionProvider")


def test_a_corrupt_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"this is not a model" * 10)
    with pytest.raises(AgentError, match=r"bad.onnx is not a whole ONNX model. Export it again"):
        opened(path)


def test_a_file_cut_short(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    path = tiny["classifier"](tmp_path / "a.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(AgentError, match="Export it again, or copy it again"):
        opened(path)


def test_a_model_from_the_future(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    model = onnx.load(tiny["classifier"](tmp_path / "a.onnx"))
    model.ir_version = 99
    onnx.save(model, tmp_path / "new.onnx")
    with pytest.raises(AgentError, match="needs a newer release than this one"):
        opened(tmp_path / "new.onnx")


@pytest.mark.parametrize("domain", ["com.acme", ""])
def test_an_operator_that_nobody_knows(
    domain: str, tiny: Mapping[str, Any], tmp_path: Path
) -> None:
    model = onnx.load(tiny["classifier"](tmp_path / "a.onnx"))
    model.graph.node[0].op_type, model.graph.node[0].domain = "Foo", domain
    if domain:
        model.opset_import.add(domain=domain, version=1)
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(AgentError, match="names an operator that this release does not have"):
        opened(tmp_path / "odd.onnx")


def test_weights_in_a_second_file_that_was_cut_short(
    tiny: Mapping[str, Any], tmp_path: Path
) -> None:
    model, second = onnx.load(tiny["classifier"](tmp_path / "a.onnx")), "b.onnx.data"
    onnx.save(
        model, tmp_path / "b.onnx", save_as_external_data=True, location=second, size_threshold=0
    )
    (tmp_path / second).write_bytes((tmp_path / second).read_bytes()[:3])
    with pytest.raises(AgentError, match="is shorter than the model says"):
        opened(tmp_path / "b.onnx")


def test_weights_in_a_second_file_of_another_name(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    model = onnx.load(tiny["classifier"](tmp_path / "a.onnx"))
    onnx.save(
        model, tmp_path / "b.onnx", save_as_external_data=True, location="b.bin", size_threshold=0
    )
    (tmp_path / "b.bin").unlink()  # as on a device: it was not sent
    with pytest.raises(AgentError, match=r"only one called b\.onnx\.data goes along.*onnx\.save\("):
        opened(tmp_path / "b.onnx")


@pytest.mark.parametrize("name", ["model.bin", "model", "model.ONNX", "model.ort.pb"])
def test_weights_elsewhere_are_refused_whatever_the_file_is_called(
    name: str, tiny: Mapping[str, Any], tmp_path: Path
) -> None:
    """ONNX Runtime reads a file of any name as ONNX, but for its own format's."""
    (tmp_path / "inner").mkdir()
    model = onnx.load(tiny["classifier"](tmp_path / "a.onnx"))
    onnx.save(
        model, tmp_path / "made", save_as_external_data=True, location="secret", size_threshold=0
    )
    model = onnx.load(tmp_path / "made", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret"
    (tmp_path / "inner" / name).write_bytes(model.SerializeToString())
    with pytest.raises(AgentError, match=r"its weights are in '../secret', which is not a file be"):
        ORT.prepare(tmp_path / "inner" / name, OPTIONS)


@pytest.mark.parametrize("name", ["model.ort", "model.ORT"])
def test_onnx_runtime_s_own_format_is_not_taken_for_onnx(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"....ORTM, which is no protobuf")
    assert ORT.prepare(tmp_path / name, OPTIONS) == tmp_path / name
    with pytest.raises(AgentError, match=r"ONNX Runtime .* cannot load model"):
        opened(tmp_path / name)


def test_weights_that_did_not_come_along(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    model = onnx.load(tiny["classifier"](tmp_path / "a.onnx"))
    target = tmp_path / "split.onnx"
    onnx.save(
        model, target, save_as_external_data=True, location="split.onnx.data", size_threshold=0
    )
    assert opened(target).info["provider"] == "CPUExecutionProvider"
    (tmp_path / "split.onnx.data").unlink()
    with pytest.raises(
        AgentError,
        match=r"weights in a second file, .split.onnx.data., and no such plain file came with it",
    ):
        opened(target)


def test_no_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(AgentError) as caught:
        opened(tmp_path / "a.onnx")
    assert caught.value.kind == "module"


@pytest.mark.parametrize("batch", ["batch", 4])
def test_float_and_baked_models_answer_alike(
    tiny: Mapping[str, Any], tmp_path: Path, batch: int | str
) -> None:
    images = tiny["pictures"](70)
    np.save(tmp_path / "images.npy", images)
    mapped = read_array(tmp_path / "images.npy")
    assert isinstance(mapped, np.memmap)
    normalise = Normalise(tiny["MEAN"], tiny["STD"])
    answers = []
    for baked in (True, False):
        session = opened(tiny["classifier"](tmp_path / "m.onnx", baked=baked, batch=batch))
        target = image_input(session.inputs, None, "m")
        answers.append(answer(session, mapped, np.arange(70) % 6, target, normalise).predictions)
    assert answers[0] == answers[1]
    assert len(answers[0]) == 70
    assert len(set(answers[0])) > 2


def test_top_five_by_hand(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    session = opened(tiny["classifier"](tmp_path / "m.onnx"))
    target = image_input(session.inputs, None, "m")
    images = tiny["pictures"](40)
    done: list[int] = []
    targets = np.arange(40) % 6
    found = answer(session, images, targets, target, Normalise(), done.append)
    logits = session.run({"x": images})["logits"]
    ranks = (-logits).argsort(axis=1)
    assert found.predictions == ranks[:, 0].tolist()
    assert found.top5_hits == sum(t in row[:5] for t, row in zip(targets, ranks, strict=True))
    assert done == [32, 40]
    assert answer(session, images, None, target, Normalise()).top5_hits is None


def _single(path: Path, op: str, shape: list[int | str]) -> Path:
    """A model of one operator on a picture."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten" if op == "Flatten" else "Identity", ["f"], ["g"]),
        helper.make_node("Div", ["g", "zero"], ["y"])
        if op == "Flatten"
        else helper.make_node("Identity", ["g"], ["y"]),
    ]
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 8, 8, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("op", "shape", "words"),
    [
        ("Identity", ["n", 8, 8, 3], r"expected logits \(2, classes\)"),
        ("Flatten", ["n", 192], "holds NaN or infinity"),
    ],
)
def test_outputs_that_are_no_answers(
    tiny: Mapping[str, Any], tmp_path: Path, op: str, shape: list[int | str], words: str
) -> None:
    session = opened(_single(tmp_path / "one.onnx", op, shape))
    target = image_input(session.inputs, None, "one")
    with pytest.raises(AgentError, match=words):
        answer(session, tiny["pictures"](2), None, target, Normalise())


def test_an_array_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"nothing")
    with pytest.raises(AgentError, match=r"x.npy cannot be read as a .npy array"):
        read_array(tmp_path / "x.npy")
