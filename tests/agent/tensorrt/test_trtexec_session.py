"""Answers by trtexec: files in, JSON out, and nothing taken on trust."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgekd.agent.accuracy import logits_of
from edgekd.agent.failures import AgentError
from edgekd.agent.feeds import Normalise, image_input
from edgekd.agent.tensorrt import trtexec
from edgekd.agent.tensorrt.spec import Batch, BuildSpec
from edgekd.agent.tensorrt.trtexec_session import TrtexecSession

Install = Callable[..., str]


@pytest.fixture
def opened(
    install: Install, graph: Callable[..., Path], tmp_path: Path
) -> Callable[..., TrtexecSession]:
    """A session on an engine of the stand-in's, which is its ONNX file behind four bytes."""

    def open_one(scene: str = "works", dtype: str = "uint8", **more: Any) -> TrtexecSession:
        (tmp_path / "a.plan").write_bytes(b"plan" + graph().read_bytes())
        spec = BuildSpec(tmp_path / "model.onnx", inputs={"x": (8, 8, 3)}, batch=Batch(1, 2, 4))
        program = install("8.5.2", scene)
        version, options = trtexec.ask(program)
        plan = tmp_path / "a.plan"
        return TrtexecSession(program, version, options, plan, replace(spec, **more), dtype)

    return open_one


def test_a_smaller_batch_is_filled_up_and_cut(
    opened: Callable[..., TrtexecSession], tiny: dict[str, Any], tmp_path: Path
) -> None:
    session = opened()
    assert [str(one) for one in session.inputs] == ["x: uint8[4,8,8,3]"]
    assert session.info["version"] == "8.5.2"
    feed = {"x": tiny["pictures"](3)}
    found = session.run(feed)
    real = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(found["logits"], real.run(None, feed)[0], rtol=1e-4, atol=1e-5)
    session.close()
    left = {file.name for file in (tmp_path / "a.answers").iterdir()}
    assert left == {"trtexec.log", "calls.txt"}


def test_random_numbers_are_not_taken_for_the_images(
    opened: Callable[..., TrtexecSession], tiny: dict[str, Any]
) -> None:
    with pytest.raises(AgentError, match="random numbers instead of the images") as caught:
        opened("random").run({"x": tiny["pictures"](4)})
    assert caught.value.kind == "input"


def test_answers_that_are_no_numbers_are_refused(
    opened: Callable[..., TrtexecSession], tiny: dict[str, Any]
) -> None:
    session = opened("nan")
    target = image_input(session.inputs, None, "a.plan")
    with pytest.raises(AgentError, match="holds NaN or infinity"):
        logits_of(session, tiny["pictures"](4), target, Normalise())


def test_an_engine_that_does_not_load_is_a_sentence(
    opened: Callable[..., TrtexecSession], tiny: dict[str, Any], tmp_path: Path
) -> None:
    session = opened()
    (tmp_path / "a.plan").write_bytes(b"of another release")
    with pytest.raises(AgentError, match=r"cannot run the engine of model\.onnx.*Serialization"):
        session.run({"x": tiny["pictures"](4)})


def test_images_of_another_size_are_refused_before_anything_runs(
    opened: Callable[..., TrtexecSession], tiny: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(
        AgentError, match=r"takes x: uint8\[4,8,8,3\], and was given \(4, 9, 9, 3\)"
    ):
        opened().run({"x": tiny["pictures"](2, (9, 9))})
    assert not (tmp_path / "a.answers" / "trtexec.log").exists()
