"""The runner on eight releases: what comes out is right only if every copy and shape was."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgekd.agent.failures import AgentError
from edgekd.agent.runtimes import load
from edgekd.agent.tensorrt.making import make
from edgekd.agent.tensorrt.spec import Batch, BuildSpec

FAKE = runpy.run_path(str(Path(__file__).parents[1] / "fake_tensorrt.py"))
VERSIONS: list[str] = FAKE["VERSIONS"]


def engine_of(onnx_file: Path, **more: Any) -> Path:
    return make(
        BuildSpec(onnx_file, batch=Batch(1, 2, 8), **more), {"edgekd.mean": "[0, 0, 0]"}
    ).plan


def expected(onnx_file: Path, feed: dict[str, Any]) -> Any:
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_answers_as_its_graph_does(
    version: str, graph: Callable[..., Path], device: Callable[..., Any], tiny: dict[str, Any]
) -> None:
    world = device(version)
    file = graph()
    session = load("trt").open(engine_of(file), {})
    assert [str(spec) for spec in session.inputs] == ["x: uint8[?,8,8,3]"]
    assert session.info == {"name": "tensorrt", "version": version, "provider": "TensorRT"}
    assert session.metadata == {"edgekd.mean": "[0, 0, 0]"}
    for count in (1, 5, 8, 3):  # the memory grows, and is used again
        feed = {"x": tiny["pictures"](count, seed=count)}
        outputs = session.run(feed)
        assert list(outputs) == ["logits"]
        np.testing.assert_array_equal(outputs["logits"], expected(file, feed))
    assert len(world.cudart.memory) == 2
    session.close()
    assert world.cudart.memory == {}
    assert world.cudart.streams == set()


def test_the_gpus_own_time_of_a_run_is_without_copies(
    graph: Callable[..., Path], device: Callable[..., Any], tiny: dict[str, Any]
) -> None:
    world = device("10.3.0", integrated=True)
    session: Any = load("trt").open(engine_of(graph()), {"events": True})
    assert session.device_ns is None  # of a run there was none
    for count, engines in ((8, 1), (19, 3)):  # in pieces, each counts
        session.run({"x": tiny["pictures"](count)})
        assert session.device_ns == engines * FAKE["ENGINE_MS"] * 1e6
    memory = session.device_memory()
    assert memory.bytes == 8 * 8 * 8 * 3 + 8 * 6 * 4  # a batch of images, and their logits
    assert memory.unified
    session.close()
    assert (world.cudart.events, world.cudart.memory) == ({}, {})


def test_without_events_the_gpu_keeps_no_time(
    graph: Callable[..., Path], device: Callable[..., Any], tiny: dict[str, Any]
) -> None:
    device("10.3.0")
    session: Any = load("trt").open(engine_of(graph()), {})
    session.run({"x": tiny["pictures"](2)})
    assert session.device_ns is None
    assert not session.device_memory().unified


def test_a_batch_beyond_the_profile_is_run_in_pieces(
    graph: Callable[..., Path], device: Callable[..., Any], tiny: dict[str, Any]
) -> None:
    world, file = device("10.3.0"), graph()
    session = load("trt").open(engine_of(file), {})
    feed = {"x": tiny["pictures"](19)}
    np.testing.assert_array_equal(session.run(feed)["logits"], expected(file, feed))
    shapes = [shape[0] for _, shape in world.called("IExecutionContext", "set_input_shape")]
    assert shapes == [8, 8, 3]


def test_a_fixed_batch_is_taken_as_it_is(
    graph: Callable[..., Path], device: Callable[..., Any], tiny: dict[str, Any]
) -> None:
    device("10.3.0")
    file = graph(batch=3)
    session = load("trt").open(engine_of(file), {})
    assert session.inputs[0].shape == (3, 8, 8, 3)
    feed = {"x": tiny["pictures"](3)}
    np.testing.assert_array_equal(session.run(feed)["logits"], expected(file, feed))


def test_images_of_another_size_are_a_sentence(
    graph: Callable[..., Path], device: Callable[..., Any], tiny: dict[str, Any]
) -> None:
    device("10.3.0")
    session = load("trt").open(engine_of(graph()), {})
    with pytest.raises(AgentError, match=r"does not take x as \(1, 9, 9, 3\)") as caught:
        session.run({"x": tiny["pictures"](1, (9, 9))})
    assert caught.value.kind == "input"


def test_a_full_gpu_is_a_sentence(
    graph: Callable[..., Path], device: Callable[..., Any], tiny: dict[str, Any]
) -> None:
    world = device("10.3.0", room=300)
    session = load("trt").open(engine_of(graph()), {})
    session.run({"x": tiny["pictures"](1)})
    with pytest.raises(AgentError, match=r"cudaMalloc: out of memory \(error 2\)") as caught:
        session.run({"x": tiny["pictures"](8)})
    assert caught.value.kind == "memory"
    session.close()  # after the failure, too, each address is freed once
    assert world.cudart.memory == {}


def test_whole_numbers_go_in_and_out(tmp_path: Path, device: Callable[..., Any]) -> None:
    device("10.3.0")
    body = helper.make_graph(
        [helper.make_node("Add", ["a", "a"], ["b"])],
        "whole",
        [helper.make_tensor_value_info("a", TensorProto.INT64, ["n", 3])],
        [helper.make_tensor_value_info("b", TensorProto.INT64, ["n", 3])],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(body, opset_imports=opset, ir_version=8), tmp_path / "model.onnx")
    session = load("trt").open(engine_of(tmp_path / "model.onnx", share=0), {})
    big = np.array([[1 << 40, 2, 3]])
    np.testing.assert_array_equal(session.run({"a": big})["b"], 2 * big)


@pytest.mark.parametrize("version", ["8.5.2.2", "11.4.0.106"])
def test_layers_are_timed_apart(
    version: str, graph: Callable[..., Path], device: Callable[..., Any], tiny: dict[str, Any]
) -> None:
    world = device(version)
    plan = engine_of(graph())
    layers = load("trt").layers(plan, {}, {"x": tiny["pictures"](2)})
    assert [layer.name for layer in layers][-1] == "logits"
    assert {layer.ms for layer in layers} == {0.25}
    assert {layer.provider for layer in layers} == {"TensorRT"}
    assert layers[-1].type == "CaskConvolution"
    assert world.cudart.memory == {}


def test_an_engine_of_another_release_is_a_sentence(
    graph: Callable[..., Path], device: Callable[..., Any]
) -> None:
    device("10.3.0")
    plan = engine_of(graph())
    device("10.13.3.9")
    with pytest.raises(AgentError, match=r"serialized version 10\.3\.0 does not match") as caught:
        load("trt").open(plan, {})
    assert caught.value.kind == "model"
